//! Which headers pass between a client and the control plane. Unlike on the way to a node, a
//! client's credentials and cookies do: the control plane has logins of its own.

use http::header::{CONNECTION, COOKIE, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use crate::request::client::forwards;

/// By the token the control plane knows that the two others are the front door's word.
const TOKEN: &str = "x-aivonx-front-door";
/// The client's address, or `unknown`.
const CLIENT: &str = "x-aivonx-client";
/// `http` or `https`.
const SCHEME: &str = "x-aivonx-scheme";
/// Nobody but the front door sets these; `headers` keeps them from nodes, too.
pub(crate) const NAMES: [&str; 3] = [TOKEN, CLIENT, SCHEME];

/// Of one connection only (RFC 9110 §7.6.1). Of a request's Pingora sees to them.
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
];
/// How long an answer is stands for itself, whatever `Connection` names.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

/// What the control plane is told of a request.
pub(crate) struct Told<'a> {
    /// What both planes hold.
    pub(crate) token: &'a HeaderValue,
    pub(crate) client: &'a HeaderValue,
    pub(crate) is_https: bool,
    pub(crate) request_id: &'a HeaderValue,
}

/// Makes a client's head fit for the control plane at `authority`, below the path `base`.
pub(crate) fn to_control(
    head: &mut RequestHeader,
    authority: &HeaderValue,
    base: &str,
    told: &Told<'_>,
) -> Result<()> {
    let claims: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| is_claim(name.as_str()))
        .cloned()
        .collect();
    for name in claims {
        head.remove_header(&name);
    }
    join_cookies(head)?;
    // whatever form it came in, so that the path that was judged is the one that is read
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let target = format!("{base}{target}");
    head.set_raw_path(target.as_bytes())?;
    if !head.headers.contains_key(HOST) {
        head.insert_header(HOST, authority.clone())?; // HTTP/1.0
    }
    head.insert_header("x-request-id", told.request_id.clone())?;
    head.insert_header(TOKEN, told.token.clone())?;
    head.insert_header(CLIENT, told.client.clone())?;
    let scheme = if told.is_https { "https" } else { "http" };
    head.insert_header(SCHEME, HeaderValue::from_static(scheme))
}

/// Whether a header says what the front door says itself, or was answered here.
fn is_claim(name: &str) -> bool {
    name.starts_with("x-aivonx-") || name == "expect" || forwards(name)
}

/// HTTP/2 clients may send cookies in several lines, HTTP/1.1 knows one (RFC 9113 §8.2.3).
fn join_cookies(head: &mut RequestHeader) -> Result<()> {
    let lines: Vec<&[u8]> = head
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.len() < 2 {
        return Ok(());
    }
    let joined = HeaderValue::from_bytes(&lines.join(&b"; "[..]));
    // parts that were values make a value
    joined.map_or(Ok(()), |joined| head.insert_header(COOKIE, joined))
}

/// Makes the control plane's head fit for the client.
pub(crate) fn from_control(head: &mut ResponseHeader, request_id: &HeaderValue) -> Result<()> {
    for name in nominated(&head.headers) {
        head.remove_header(&name);
    }
    for name in HOP_BY_HOP.iter().chain(&NAMES) {
        head.remove_header(*name);
    }
    head.insert_header("x-request-id", request_id.clone())
}

/// What `Connection` names besides.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    let names = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok());
    names
        .filter(|name| !FRAMING.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(lines: &[(&'static str, &'static str)], base: &str, target: &str) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in lines {
            head.append_header(*name, *value).unwrap();
        }
        let value = HeaderValue::from_static;
        let (token, client, id) = (value("token"), value("192.0.2.7"), value("id"));
        let told = Told {
            token: &token,
            client: &client,
            is_https: true,
            request_id: &id,
        };
        to_control(&mut head, &value("control:8001"), base, &told).unwrap();
        head
    }

    fn all(head: &RequestHeader, name: &str) -> Vec<String> {
        let values = head.headers.get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn claims_go_and_credentials_stay() {
        let head = sent(
            &[
                ("host", "aivonx.example"),
                ("authorization", "Bearer x"),
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("x-aivonx-front-door", "guess"),
                ("X-Aivonx-Client", "127.0.0.1"),
                ("x-aivonx-client", "::1"),
                ("x-aivonx-node", "n0"),
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-prefix", "/a"),
                ("forwarded", "for=127.0.0.1"),
                ("x-real-ip", "127.0.0.1"),
                ("expect", "100-continue"),
            ],
            "",
            "/ui?a=b%2F",
        );
        assert_eq!(head.raw_path(), b"/ui?a=b%2F");
        assert_eq!(all(&head, "host"), ["aivonx.example"]);
        assert_eq!(all(&head, "authorization"), ["Bearer x"]);
        assert_eq!(all(&head, "cookie"), ["a=1; b=2"]);
        assert_eq!(all(&head, "x-aivonx-front-door"), ["token"]);
        assert_eq!(all(&head, "x-aivonx-client"), ["192.0.2.7"]);
        assert_eq!(all(&head, "x-aivonx-scheme"), ["https"]);
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "authorization",
                "cookie",
                "host",
                "x-aivonx-client",
                "x-aivonx-front-door",
                "x-aivonx-scheme",
                "x-request-id"
            ]
        );
    }

    #[test]
    fn the_target_is_the_judged_path_below_the_base() {
        let head = sent(&[], "/team", "http://elsewhere/ui/x?y");
        assert_eq!(head.raw_path(), b"/team/ui/x?y");
        assert_eq!(all(&head, "host"), ["control:8001"]);
    }

    #[test]
    fn an_answer_keeps_all_but_what_was_for_the_connection() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "keep-alive, X-Hop, content-length"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("content-length", "0"),
            ("x-aivonx-front-door", "token"),
        ] {
            head.append_header(name, value).unwrap();
        }
        from_control(&mut head, &HeaderValue::from_static("id")).unwrap();
        let mut names: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let left = ["content-length", "set-cookie", "set-cookie", "x-request-id"];
        assert_eq!(names, left);
    }
}
