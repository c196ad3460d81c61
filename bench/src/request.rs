//! What is asked: one request, as HTTP/1.1 and as HTTP/2 have it.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Method};

use crate::wire::Tls;

/// Where `model` stands among the keys of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    First,
    Last,
}

/// The shape of a request and of its answer.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// Bytes of the body.
    #[arg(long, default_value_t = 200)]
    pub(crate) body: usize,
    /// Where `model` stands in the body.
    #[arg(long, value_enum, default_value_t = Place::First)]
    pub(crate) model_at: Place,
    /// Asks for a stream of this many chunks; 0 for a whole answer.
    #[arg(long, default_value_t = 0)]
    pub(crate) chunks: usize,
    /// Microseconds between two chunks.
    #[arg(long, default_value_t = 0)]
    pub(crate) pause_us: u64,
}

/// What every connection sends.
pub(crate) struct Request {
    pub(crate) target: SocketAddr,
    pub(crate) tls: Option<Tls>,
    /// Head and body in HTTP/1.1.
    pub(crate) bytes: Vec<u8>,
    /// The head in HTTP/2.
    pub(crate) head: http::Request<()>,
    pub(crate) body: Bytes,
    /// Lines that a whole answer must have; 0 for an answer in one piece.
    pub(crate) chunks: usize,
}

impl Request {
    /// `headers` are lines, as `x-api-key: …`.
    pub(crate) fn new(
        target: SocketAddr,
        path: &str,
        headers: &[String],
        ask: &Ask,
        tls: Option<Tls>,
    ) -> io::Result<Self> {
        let body = body(ask);
        let lines = lines(headers, ask, body.len());
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self {
            target,
            bytes: http1(path, &lines, &body),
            head: http2(&format!("{scheme}://localhost{path}"), &lines)?,
            body: body.into(),
            chunks: ask.chunks,
            tls,
        })
    }
}

/// The header lines of both, except who is asked.
fn lines(headers: &[String], ask: &Ask, length: usize) -> Vec<String> {
    let mut lines: Vec<String> = [
        "Content-Type: application/json",
        "Accept: */*",
        "User-Agent: bench-load",
    ]
    .map(str::to_owned)
    .into();
    lines.push(format!("Content-Length: {length}"));
    lines.extend_from_slice(headers);
    if ask.chunks > 0 {
        lines.push(format!("x-bench-chunks: {}", ask.chunks));
    }
    if ask.chunks > 0 && ask.pause_us > 0 {
        lines.push(format!("x-bench-pause-us: {}", ask.pause_us));
    }
    lines
}

fn http1(path: &str, lines: &[String], body: &str) -> Vec<u8> {
    let lines = lines.join("\r\n");
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n{body}").into_bytes()
}

fn http2(url: &str, lines: &[String]) -> io::Result<http::Request<()>> {
    let mut request = http::Request::builder().method(Method::POST).uri(url);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(io::Error::other(format!("no header line: {line}")));
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
        let value = HeaderValue::from_str(value.trim()).map_err(io::Error::other)?;
        request = request.header(name, value);
    }
    request.body(()).map_err(io::Error::other)
}

/// A chat request of about `ask.body` bytes: the filling is one message of plain words.
fn body(ask: &Ask) -> String {
    const WORDS: &str = "why is the sky blue and the sea so deep ";
    let make = |text: &str| {
        let messages = format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#);
        let stream = ask.chunks > 0;
        match ask.model_at {
            Place::First => format!(r#"{{"model":"bench",{messages},"stream":{stream}}}"#),
            Place::Last => format!(r#"{{{messages},"stream":{stream},"model":"bench"}}"#),
        }
    };
    let text: String = WORDS
        .chars()
        .cycle()
        .take(ask.body.saturating_sub(make("").len()))
        .collect();
    make(&text)
}
