//! The head of a request: read, checked and refused as Go's server does.

use std::io;

use super::conn::Conn;

/// Bytes a head may have: Go's 1 MiB and its slack of 4 KiB.
const MAX_HEAD: usize = (1 << 20) + 4096;

/// A request without its body.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// As sent, query included.
    pub(crate) target: String,
    /// Decoded, without the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Whether it is HTTP/1.0.
    pub(crate) old: bool,
    pub(crate) framing: Framing,
}

/// How the body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// The connection ended, or broke.
    Closed,
    /// Answered with this status line and the same text as body, then closed.
    Refused(&'static str),
}

impl From<io::Error> for HeadError {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

const BAD: HeadError = HeadError::Refused("400 Bad Request");

impl Head {
    /// The first value of a header.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Whether a comma-separated header has this token.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .flat_map(|(_, v)| v.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    }

    /// Whether the connection may carry another request after this one.
    pub(crate) fn keeps_alive(&self) -> bool {
        if self.old {
            self.has_token("connection", "keep-alive")
        } else {
            !self.has_token("connection", "close")
        }
    }

    /// Whether the client waits for `100 Continue` before its body.
    pub(crate) fn expects_continue(&self) -> bool {
        !self.old && self.has_token("expect", "100-continue")
    }
}

/// Reads one head from the connection; what follows it stays in the read-ahead.
pub(crate) async fn read_head(conn: &Conn) -> Result<Head, HeadError> {
    let mut searched = 0;
    loop {
        let end = {
            let mut ahead = conn.ahead.lock();
            let blank = ahead
                .iter()
                .take_while(|b| matches!(b, b'\r' | b'\n'))
                .count();
            if blank > 0 && searched == 0 {
                ahead.drain(..blank);
            }
            let from = searched.min(ahead.len());
            let end = find_end(&ahead[from..]).map(|n| from + n);
            searched = ahead.len().saturating_sub(3);
            if end.unwrap_or(ahead.len()) > MAX_HEAD {
                return Err(HeadError::Refused("431 Request Header Fields Too Large"));
            }
            end.map(|n| ahead.drain(..n).collect::<Vec<u8>>())
        };
        if let Some(bytes) = end {
            return parse(&bytes);
        }
        if conn.fill().await? == 0 {
            return Err(HeadError::Closed);
        }
    }
}

/// The length of a head with its empty line, if that is here.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&b| b == b'\n') {
        let after = from + at + 1;
        match &bytes[after..] {
            [b'\n', ..] => return Some(after + 1),
            [b'\r', b'\n', ..] => return Some(after + 2),
            _ => from = after,
        }
    }
    None
}

fn parse(bytes: &[u8]) -> Result<Head, HeadError> {
    let mut slots = vec![httparse::EMPTY_HEADER; 64];
    loop {
        let mut request = httparse::Request::new(&mut slots);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => return build(&request),
            Err(httparse::Error::TooManyHeaders) if slots.len() < 65_536 => {
                let more = slots.len() * 4;
                slots = vec![httparse::EMPTY_HEADER; more];
            }
            _ => return Err(BAD),
        }
    }
}

fn build(request: &httparse::Request<'_, '_>) -> Result<Head, HeadError> {
    let target = request.path.unwrap_or("/");
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: target.to_owned(),
        path: decoded_path(target)?,
        headers: request
            .headers
            .iter()
            .map(|h| {
                (
                    h.name.to_owned(),
                    h.value.iter().copied().map(char::from).collect(),
                )
            })
            .collect(),
        old: request.version == Some(0),
        framing: Framing::Length(0),
    };
    if !head.old && head.get("host").is_none() {
        return Err(HeadError::Refused(
            "400 Bad Request: missing required Host header",
        ));
    }
    head.framing = framing(&head)?;
    Ok(head)
}

/// The chunked coding wins over a length, as in Go; two lengths must agree.
fn framing(head: &Head) -> Result<Framing, HeadError> {
    if let Some(coding) = head.get("transfer-encoding") {
        return if coding.trim().eq_ignore_ascii_case("chunked") {
            Ok(Framing::Chunked)
        } else {
            Err(HeadError::Refused(
                "501 Not Implemented: Unsupported transfer encoding",
            ))
        };
    }
    let mut lengths = head
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
        .map(|(_, v)| v.trim());
    let Some(first) = lengths.next() else {
        return Ok(Framing::Length(0));
    };
    if lengths.any(|other| other != first) || !first.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    first.parse().map(Framing::Length).map_err(|_| BAD)
}

fn decoded_path(target: &str) -> Result<String, HeadError> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = match path.find("://") {
        Some(at) if !path.starts_with('/') => {
            let rest = &path[at + 3..];
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => path,
    };
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or(BAD);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
