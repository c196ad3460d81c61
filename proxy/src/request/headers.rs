//! Which headers pass, in either direction (ollama-api.md §9); `front_door` says it for the control
//! plane.

pub(crate) mod front_door;

use http::{HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// A request's id. As a value, because every request looks for it: a text would be parsed each time.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The one node that a request is for, or the one that answered.
pub(crate) static NODE: HeaderName = HeaderName::from_static("x-aivonx-node");

/// Headers of a client that no node shall see: its credentials (a node would send them on to
/// ollama.com with a cloud model), also where they are not looked for, its origin (checked here),
/// and what would change the answer's bytes or the node's redirects; and what only the front door says
/// ([`front_door::NAMES`]). Hop-by-hop headers are Pingora's (`upstream/peer`).
const STRIPPED: [&str; 24] = [
    "authorization",
    "x-api-key",
    "api-key",
    "apikey",
    "x-goog-api-key",
    "x-auth-key",
    "x-auth-token",
    "x-access-token",
    "cookie",
    "origin",
    "access-control-request-method",
    "access-control-request-headers",
    "access-control-request-private-network",
    "accept-encoding",
    "expect",
    "x-forwarded-prefix",
    "proxy-authorization",
    "x-aivonx-node",
    "x-aivonx-attempts",
    "x-aivonx-queue-ms",
    "x-aivonx-model",
    front_door::NAMES[0],
    front_door::NAMES[1],
    front_door::NAMES[2],
];

/// What is wrong with a client's head in itself, as Go's server would put it: status and reason.
/// `raw` is the head as it came, since Pingora drops the length of a chunked body: Go takes the pair
/// and lets the chunks win, but of two servers one may think otherwise.
pub(crate) fn fault(head: &RequestHeader, raw: &[u8]) -> Option<(u16, &'static str)> {
    if head.version == http::Version::HTTP_11 && !head.headers.contains_key(http::header::HOST) {
        return Some((400, "Bad Request: missing required Host header"));
    }
    if !escapes_are_whole(head.uri.path().as_bytes()) {
        return Some((400, "Bad Request"));
    }
    let mut codings = head.headers.get_all(http::header::TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    if codings.next().is_some() {
        return Some((400, "Bad Request: too many transfer encodings"));
    }
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Some((501, "Not Implemented: Unsupported transfer encoding"));
    }
    let has_length = raw.split(|byte| *byte == b'\n').any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    });
    has_length.then_some((400, "Bad Request"))
}

/// Whether every `%` of a path is followed by two hexadecimal digits.
fn escapes_are_whole(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'%')
        .skip(1)
        .all(|rest| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

/// Takes out what no node shall see; `is_private` names more of it.
pub(crate) fn strip(head: &mut RequestHeader, is_private: impl Fn(&str) -> bool) {
    // nearly always there is none: looking at the few that came is cheaper than removing each
    let stripped: Vec<_> = head
        .headers
        .keys()
        .filter(|name| STRIPPED.contains(&name.as_str()) || is_private(name.as_str()))
        .cloned()
        .collect();
    for name in stripped {
        head.remove_header(&name);
    }
}

/// Makes a client's head, once stripped, fit for a node: its own authority as `Host`, its base path in
/// front, and of the query what stands in `read`.
pub(crate) fn to_node(
    head: &mut RequestHeader,
    authority: &HeaderValue,
    base: &str,
    request_id: &HeaderValue,
    read: &[&str],
) -> Result<()> {
    head.insert_header("Host", authority.clone())?;
    head.insert_header("x-request-id", request_id.clone())?;
    let raw = head.raw_path();
    let (path, query) = match raw.iter().position(|byte| *byte == b'?') {
        Some(at) => (&raw[..at], Some(&raw[at + 1..])),
        None => (raw, None),
    };
    if base.is_empty() && query.is_none() {
        return Ok(());
    }
    let target = [
        base.as_bytes(),
        path,
        &kept(query.unwrap_or_default(), read),
    ]
    .concat();
    head.set_raw_path(&target)
}

/// The pairs of a query whose names stand in `read`, with the question mark.
fn kept(query: &[u8], read: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for pair in query.split(|byte| *byte == b'&') {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        if read.iter().any(|read| read.as_bytes() == name) {
            out.push(if out.is_empty() { b'?' } else { b'&' });
            out.extend_from_slice(pair);
        }
    }
    out
}

/// Marks an answer: which request it is, which node gave it after how many attempts. The time spent
/// in the queue will stand in `x-aivonx-queue-ms` once there is a queue.
pub(crate) fn mark(
    head: &mut ResponseHeader,
    request_id: &HeaderValue,
    node: Option<(&HeaderValue, u32)>,
) -> Result<()> {
    head.insert_header("x-request-id", request_id.clone())?;
    if let Some((name, attempts)) = node {
        head.insert_header("x-aivonx-node", name.clone())?;
        match attempts {
            1 => head.insert_header("x-aivonx-attempts", HeaderValue::from_static("1"))?,
            more => head.insert_header("x-aivonx-attempts", more)?,
        }
    }
    Ok(())
}

/// HTTP/1.0 knows no chunks: a body without a length ends with the connection.
pub(crate) fn for_http_1_0(head: &mut ResponseHeader) {
    head.remove_header(&http::header::TRANSFER_ENCODING);
    head.set_version(http::Version::HTTP_10);
}

/// Names the origin that may read the answer, as gin-contrib/cors does, and the headers of ours that
/// it may read, too.
pub(crate) fn allow_origin(head: &mut ResponseHeader, origin: &HeaderValue) -> Result<()> {
    head.insert_header("Access-Control-Allow-Origin", origin.clone())?;
    let exposed = HeaderValue::from_static(EXPOSE_HEADERS);
    head.insert_header("Access-Control-Expose-Headers", exposed)?;
    head.append_header("Vary", "Origin")?;
    Ok(())
}

/// The answer to a preflight from an allowed origin (recording `transport-preflight`), with the
/// headers beside Ollama's own list that libraries send from a browser. An origin of the
/// configuration may name a node, too (`pins`).
pub(crate) fn preflight(head: &mut ResponseHeader, pins: bool) -> Result<()> {
    head.remove_header("Access-Control-Expose-Headers"); // of an answer that is not here yet
    head.insert_header("Access-Control-Allow-Headers", ALLOW_HEADERS)?;
    if pins {
        head.append_header("Access-Control-Allow-Headers", "X-Aivonx-Node")?;
    }
    head.insert_header(
        "Access-Control-Allow-Methods",
        "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    )?;
    head.insert_header("Access-Control-Max-Age", "43200")?;
    head.append_header("Vary", "Access-Control-Request-Method")?;
    head.append_header("Vary", "Access-Control-Request-Headers")?;
    Ok(())
}

/// Ollama's list, then what OpenAI's and Anthropic's libraries send from a browser beside it.
const ALLOW_HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,\
    Openai-Beta,X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,\
    X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,\
    X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,\
    X-Stainless-Runtime-Version,X-Stainless-Timeout,\
    X-Stainless-Helper,X-Stainless-Raw-Response,X-Stainless-Read-Timeout,Openai-Organization,\
    Openai-Project,Idempotency-Key,X-Request-Id,X-Api-Key,Anthropic-Version,Anthropic-Beta,\
    Anthropic-Dangerous-Direct-Browser-Access";
/// What aivonx adds to answers, and when to come back.
const EXPOSE_HEADERS: &str =
    "X-Request-Id,X-Aivonx-Node,X-Aivonx-Model,X-Aivonx-Attempts,Retry-After";

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a head of these lines.
    fn fault_of(path: &str, lines: &[(&'static str, &'static str)]) -> Option<u16> {
        let mut head = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
        let mut raw = Vec::new();
        for (name, value) in lines {
            raw.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            head.append_header(*name, *value).unwrap();
        }
        fault(&head, &raw).map(|(status, _)| status)
    }

    /// What a node gets of a target of which it reads the pair `model`.
    fn target(base: &str, target: &str) -> String {
        let mut head = RequestHeader::build("POST", target.as_bytes(), None).unwrap();
        let value = HeaderValue::from_static("a");
        to_node(&mut head, &value, base, &value, &["model"]).unwrap();
        String::from_utf8(head.raw_path().to_vec()).unwrap()
    }

    #[test]
    fn of_a_query_only_what_the_node_reads_goes_there() {
        assert_eq!(target("", "/api/chat"), "/api/chat");
        assert_eq!(target("", "/api/chat?key=secret"), "/api/chat");
        assert_eq!(target("", "/a?"), "/a");
        assert_eq!(target("/base", "/a?api_key=b&c=d?e"), "/base/a");
        assert_eq!(
            target("/base", "/a?key=b&model=c&models=d&model=%2F"),
            "/base/a?model=c&model=%2F"
        );
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        let host = ("Host", "localhost");
        let chunked = ("Transfer-Encoding", "chunked");
        assert_eq!(fault_of("/api/chat", &[host]), None);
        assert_eq!(fault_of("/api/chat", &[]), Some(400));
        assert_eq!(fault_of("/a%2fb", &[host, ("content-length", "5")]), None);
        assert_eq!(fault_of("/a%2", &[host]), Some(400));
        assert_eq!(fault_of("/%zz", &[host]), Some(400));
        assert_eq!(
            fault_of("/", &[host, ("transfer-encoding", "Chunked")]),
            None
        );
        assert_eq!(fault_of("/", &[host, chunked, chunked]), Some(400));
        assert_eq!(
            fault_of("/", &[host, ("Transfer-Encoding", "gzip, chunked")]),
            Some(501)
        );
        assert_eq!(
            fault_of("/", &[host, ("content-LENGTH", "5"), chunked]),
            Some(400)
        );
    }
}
