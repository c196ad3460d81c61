//! What a client is told that did not get as far as a request: plain text, as Go's server tells it,
//! and the end of its connection.

use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connections::Full;
use super::head::NoHead;

/// How long a refused client may go on sending, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_millis(500);
/// And how much.
const LINGER_BYTES: usize = 1 << 20;

/// Why a connection ends before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no head.
    NoHead(NoHead),
    /// There is no place.
    Full(Full),
    /// Plain text where TLS is expected.
    PlainOnTls,
}

impl From<NoHead> for Refusal {
    fn from(none: NoHead) -> Self {
        Self::NoHead(none)
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl Refusal {
    /// The value of `rejections_total{reason}`; `None` where there is nobody to refuse.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::NoHead(NoHead::Gone) => None,
            Self::NoHead(NoHead::Slow) => Some("head_timeout"),
            Self::NoHead(NoHead::Long) => Some("head_too_large"),
            Self::NoHead(NoHead::NotHttp) => Some("not_http"),
            Self::NoHead(NoHead::Tls) => Some("tls_on_plain"),
            Self::NoHead(NoHead::ProxyHeader) => Some("proxy_header"),
            Self::Full(full) => Some(full.reason()),
            Self::PlainOnTls => Some("plain_on_tls"),
        }
    }

    /// Status line, and what is said beside it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NoHead(NoHead::Slow) => ("408 Request Timeout", ""),
            Self::NoHead(NoHead::Long) => ("431 Request Header Fields Too Large", ""),
            Self::NoHead(NoHead::Gone | NoHead::NotHttp) => ("400 Bad Request", ""),
            Self::NoHead(NoHead::Tls) => (
                "400 Bad Request",
                ": client sent a TLS handshake to a plain HTTP port",
            ),
            Self::NoHead(NoHead::ProxyHeader) => (
                "400 Bad Request",
                ": a PROXY header that is not valid, or from an address that may not send one",
            ),
            Self::Full(Full::All) => ("503 Service Unavailable", ": too many connections"),
            Self::Full(Full::Client) => (
                "429 Too Many Requests",
                ": too many connections of one client",
            ),
            Self::PlainOnTls => (
                "400 Bad Request",
                ": client sent an HTTP request to an HTTPS port", // Go's words, nearly
            ),
        }
    }

    fn answer(self) -> String {
        let (status, more) = self.words();
        let retry = if matches!(self, Self::Full(_)) {
            "Retry-After: 1\r\n"
        } else {
            ""
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n{retry}Content-Length: {}\r\nConnection: close\r\n\r\n{status}{more}",
            status.len() + more.len()
        )
    }
}

/// Answers and closes.
pub(super) async fn refuse(mut stream: Stream, refusal: Refusal) {
    let answer = refusal.answer();
    let parting = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        AsyncWriteExt::shutdown(&mut stream).await?;
        if matches!(refusal, Refusal::Full(_)) {
            return Ok(()); // what is refused for want of room is not kept
        }
        let (mut left, mut scratch) = (LINGER_BYTES, [0; 4096]);
        while left > 0 {
            match stream.read(&mut scratch).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    };
    // whether the client listened is its own affair
    let _ = tokio::time::timeout(LINGER, parting).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_http() {
        let answer = Refusal::Full(Full::Client).answer();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
            "{head}"
        );
        assert!(head.contains("Retry-After: 1"), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
    }
}
