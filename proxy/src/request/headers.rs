//! Which headers pass, in either direction (ollama-api.md §9); `front_door` says it for the control
//! plane.

pub(crate) mod front_door;

use http::HeaderValue;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// Headers of a client that no node shall see: its credentials (a node would send them on to
/// ollama.com with a cloud model), its origin (checked here), and what would change the answer's
/// bytes or the node's redirects; and what only the front door says ([`front_door::NAMES`]). Hop-by-hop
/// headers are Pingora's.
const STRIPPED: [&str; 18] = [
    "authorization",
    "x-api-key",
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

/// Makes a client's head, once stripped, fit for a node: its own authority as `Host`, its base path in front.
pub(crate) fn to_node(
    head: &mut RequestHeader,
    authority: &HeaderValue,
    base: &str,
    request_id: &HeaderValue,
) -> Result<()> {
    head.insert_header("Host", authority.clone())?;
    head.insert_header("x-request-id", request_id.clone())?;
    if !base.is_empty() {
        let mut path = base.as_bytes().to_vec();
        path.extend_from_slice(head.raw_path());
        head.set_raw_path(&path)?;
    }
    Ok(())
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

/// Names the origin that may read the answer, as gin-contrib/cors does.
pub(crate) fn allow_origin(head: &mut ResponseHeader, origin: &HeaderValue) -> Result<()> {
    head.insert_header("Access-Control-Allow-Origin", origin.clone())?;
    head.append_header("Vary", "Origin")?;
    Ok(())
}

/// The answer to a preflight from an allowed origin (recording `transport-preflight`), with the
/// headers of Anthropic's SDK beside Ollama's own list.
pub(crate) fn preflight(head: &mut ResponseHeader) -> Result<()> {
    head.insert_header("Access-Control-Allow-Headers", ALLOW_HEADERS)?;
    head.insert_header(
        "Access-Control-Allow-Methods",
        "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    )?;
    head.insert_header("Access-Control-Max-Age", "43200")?;
    head.append_header("Vary", "Access-Control-Request-Method")?;
    head.append_header("Vary", "Access-Control-Request-Headers")?;
    Ok(())
}

const ALLOW_HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout,X-Api-Key,Anthropic-Version,Anthropic-Beta";

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
