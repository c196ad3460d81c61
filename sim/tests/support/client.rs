//! A client that keeps every byte: chunks stay apart, and so do the ways a connection can end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One answer, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status_line: String,
    /// In their order, without `Date`.
    pub(crate) headers: Vec<(String, String)>,
    /// HTTP chunks, or the one body of a given length.
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) is_chunked: bool,
    /// Whether its framing ended.
    pub(crate) is_complete: bool,
    /// Whether a `100 Continue` came first.
    pub(crate) had_continue: bool,
}

impl Answer {
    /// Reads what is here; `closed` says that no more will come.
    pub(crate) fn parse(bytes: &[u8], is_head: bool, closed: bool) -> Option<Self> {
        if let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
            return Self::parse(rest, is_head, closed).map(|a| Self {
                had_continue: true,
                ..a
            });
        }
        let at = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let mut lines = head.split("\r\n");
        let mut answer = Self {
            status_line: lines.next()?.to_owned(),
            ..Self::default()
        };
        for line in lines {
            let (name, value) = line.split_once(':')?;
            if name != "Date" {
                answer
                    .headers
                    .push((name.to_owned(), value.trim().to_owned()));
            }
        }
        let body = &bytes[at + 4..];
        answer.is_chunked = answer.header("Transfer-Encoding").is_some();
        if is_head || answer.status_line.contains(" 204 ") {
            answer.is_complete = true;
        } else if answer.is_chunked {
            answer.take_chunks(body);
        } else if let Some(n) = answer.header("Content-Length").and_then(|n| n.parse().ok()) {
            answer.is_complete = body.len() >= n;
            answer.chunks.push(body[..body.len().min(n)].to_vec());
        } else {
            answer.is_complete = closed;
            answer.chunks.push(body.to_vec());
        }
        Some(answer)
    }

    fn take_chunks(&mut self, mut body: &[u8]) {
        while let Some(at) = body.windows(2).position(|w| w == b"\r\n") {
            let size = std::str::from_utf8(&body[..at])
                .ok()
                .and_then(|s| usize::from_str_radix(s, 16).ok());
            let (Some(size), rest) = (size, &body[at + 2..]) else {
                return;
            };
            if size == 0 {
                self.is_complete = rest.starts_with(b"\r\n");
                return;
            }
            if rest.len() < size + 2 {
                return;
            }
            self.chunks.push(rest[..size].to_vec());
            body = &rest[size + 2..];
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    pub(crate) fn status(&self) -> u16 {
        self.status_line
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or_default()
    }

    pub(crate) fn body(&self) -> String {
        String::from_utf8_lossy(&self.chunks.concat()).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body()).unwrap_or_default()
    }

    /// Each chunk as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.chunks
            .iter()
            .map(|c| String::from_utf8_lossy(c).into_owned())
            .collect()
    }
}

/// How reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer was whole; the connection was still open.
    Open,
    /// The server closed it (FIN).
    Closed,
    /// The server reset it (RST).
    Reset,
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) bytes: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            bytes: Vec::new(),
        })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads once; `None` when the connection has ended in the way given.
    pub(crate) async fn read(&mut self) -> Result<usize, End> {
        let mut chunk = vec![0; 64 * 1024];
        match self.stream.read(&mut chunk).await {
            Ok(0) => Err(End::Closed),
            Ok(n) => {
                self.bytes.extend_from_slice(&chunk[..n]);
                Ok(n)
            }
            Err(_) => Err(End::Reset),
        }
    }

    /// Reads until the answer is whole or the connection ends.
    #[expect(
        clippy::match_wild_err_arm,
        reason = "the only error is that time is up"
    )]
    pub(crate) async fn answer(&mut self, is_head: bool) -> (Option<Answer>, End) {
        loop {
            if let Some(answer) =
                Answer::parse(&self.bytes, is_head, false).filter(|a| a.is_complete)
            {
                return (Some(answer), End::Open);
            }
            let read = tokio::time::timeout(Duration::from_secs(20), self.read());
            match read.await {
                Ok(Ok(_)) => {}
                Ok(Err(end)) => return (Answer::parse(&self.bytes, is_head, true), end),
                Err(_elapsed) => panic!(
                    "no whole answer in 20 s: {:?}",
                    String::from_utf8_lossy(&self.bytes)
                ),
            }
        }
    }
}

/// One request on its own connection.
pub(crate) async fn exchange(addr: SocketAddr, request: &[u8]) -> (Option<Answer>, End) {
    let Ok(mut client) = Client::connect(addr).await else {
        return (None, End::Reset);
    };
    client.send(request).await;
    client.answer(request.starts_with(b"HEAD ")).await
}

/// A request with a JSON body.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Posts JSON and expects a whole answer.
pub(crate) async fn post(addr: SocketAddr, path: &str, body: &str) -> Answer {
    exchange(addr, &request("POST", path, body))
        .await
        .0
        .expect("an answer")
}

/// Gets a path and expects a whole answer.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> Answer {
    exchange(addr, &request("GET", path, ""))
        .await
        .0
        .expect("an answer")
}
