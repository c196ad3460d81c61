//! The ways in which a recorded request is sent: over HTTP/1.1 as it was recorded, and over HTTP/2.
//! What HTTP/2 cannot say is left out by a rule, and what its answers do not have is set aside.

use std::net::SocketAddr;

use http::Request;

use super::raw::{self, Answer, End};
use super::recorded::{Exchange, Parts};
use crate::support::{self, H2};

/// A way to send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// The recorded bytes.
    Http1,
    /// HTTP/2 with prior knowledge; the body's last bytes carry its end.
    Http2,
    /// The same as clients send it that stream a body: no length, and an end of its own.
    Http2WithoutLengths,
}

/// What one side did.
pub(super) struct Got {
    pub(super) answer: Option<Answer>,
    pub(super) end: End,
    /// Whether the connection carried another request.
    pub(super) reusable: bool,
}

/// Headers of one connection, which HTTP/2 does not have (RFC 9113 §8.2.2).
const OF_A_CONNECTION: [&str; 4] = ["connection", "keep-alive", "transfer-encoding", "upgrade"];

impl Wire {
    /// Why an exchange cannot be had in this way; `None` where it can.
    pub(super) fn leaves_out(self, one: &Exchange) -> Option<&'static str> {
        let parts = one.parts();
        let values = |name| parts.values(name);
        if self == Self::Http1 {
            None
        } else if parts.version != "HTTP/1.1" {
            Some("another version of HTTP is no question over HTTP/2")
        } else if values("host").iter().all(|host| host.is_empty()) {
            Some("an authority is never empty (RFC 9113 §8.3.1)")
        } else if !values("transfer-encoding").is_empty() {
            Some("chunks are framing of HTTP/1.1 (RFC 9113 §8.2.2)")
        } else if values("content-length").len() > 1 {
            Some("two lengths are a question of framing: frames have their own")
        } else {
            None
        }
    }

    /// Sends a recorded request on a connection of its own, and a plain one after it.
    pub(super) async fn send(self, addr: SocketAddr, one: &Exchange) -> Got {
        match self {
            Self::Http1 => http1(addr, one).await,
            Self::Http2 | Self::Http2WithoutLengths => self.http2(addr, &one.parts()).await,
        }
    }

    async fn http2(self, addr: SocketAddr, parts: &Parts<'_>) -> Got {
        let h2 = H2::plain(addr).await;
        let mut pieces = vec![parts.body];
        if self == Self::Http2WithoutLengths {
            pieces.push(b"");
        }
        if parts.body.is_empty() {
            pieces.clear();
        }
        let Ok(open) = h2.open(self.head(parts), &pieces).await else {
            return Got {
                answer: None,
                end: End::Reset,
                reusable: false,
            };
        };
        let answer = taken_apart(open.rest().await);
        let next = h2.get("/").await;
        Got {
            end: if answer.is_complete {
                End::Open
            } else {
                End::Reset
            },
            answer: Some(answer),
            reusable: next.text() == "Ollama is running",
        }
    }

    fn head(self, parts: &Parts<'_>) -> Request<()> {
        let authority = parts.values("host")[0];
        let mut request = Request::builder()
            .method(parts.method)
            .uri(format!("http://{authority}{}", parts.target));
        for (name, value) in &parts.headers {
            let is_length = name.eq_ignore_ascii_case("content-length");
            let is_dropped = is_length && self == Self::Http2WithoutLengths;
            if !is_dropped && !name.eq_ignore_ascii_case("host") {
                request = request.header(*name, *value);
            }
        }
        request.body(()).unwrap()
    }

    /// What of an answer over HTTP/1.1 can be said in this way.
    pub(super) fn says(self, answer: &Answer) -> Answer {
        let mut answer = answer.clone();
        if self != Self::Http1 {
            answer.status_line = status_line(answer.status());
            answer
                .headers
                .retain(|(name, _)| !OF_A_CONNECTION.contains(&name.to_ascii_lowercase().as_str()));
        }
        answer
    }
}

async fn http1(addr: SocketAddr, one: &Exchange) -> Got {
    let mut client = raw::Client::connect(addr).await.unwrap();
    client.send(&one.request).await;
    let (answer, end) = client.answer(one.is_head()).await;
    let mut reusable = false;
    if end == End::Open {
        client.bytes.clear();
        client
            .send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let (next, _) = client.answer(false).await;
        reusable = next.is_some_and(|next| next.body() == "Ollama is running");
    }
    Got {
        answer,
        end,
        reusable,
    }
}

/// HTTP/2 has no reasons.
fn status_line(status: u16) -> String {
    format!("HTTP/2 {status}")
}

/// An answer over HTTP/2 in the parts of one over HTTP/1.1. Its body is one piece: where frames end
/// means nothing, and Pingora ends one wherever a read from the node ended.
fn taken_apart(response: support::Response) -> Answer {
    Answer {
        status_line: status_line(response.status),
        headers: response.headers,
        chunks: vec![response.body],
        is_complete: response.end == support::End::Complete,
        ..Answer::default()
    }
}
