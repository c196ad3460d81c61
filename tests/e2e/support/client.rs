//! A raw HTTP/1.1 client: it sees chunks, breaks and closes as they come.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By its own framing.
    Complete,
    /// The connection was closed before that.
    Cut,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Sizes of the HTTP chunks.
    pub(crate) chunks: Vec<usize>,
    pub(crate) end: End,
}

impl Response {
    /// A header's value, names in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The lines of an NDJSON body.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The node that answered.
    pub(crate) fn node(&self) -> &str {
        self.header("x-aivonx-node").unwrap_or("")
    }
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    /// From one of this machine's own addresses.
    pub(crate) async fn connect_from(from: [u8; 4], addr: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        Self::over(socket.connect(addr).await.unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends raw bytes. A connection that the other side has closed is seen when reading.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref()))
            .await
            .expect("could not send in time");
    }

    /// Reads until `done` likes the bytes, or the end. False at the end.
    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 64 << 10];
        match tokio::time::timeout(PATIENCE, self.stream.read(&mut chunk))
            .await
            .expect("no answer in time")
        {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }

    /// Reads the head of an answer; `None` where the connection ended first.
    pub(crate) async fn head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let raw: Vec<u8> = self.buffer.drain(..end).collect();
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        parsed.parse(&raw).unwrap();
        Some(Response {
            status: parsed.code.unwrap(),
            headers: parsed
                .headers
                .iter()
                .map(|h| {
                    (
                        h.name.to_owned(),
                        String::from_utf8_lossy(h.value).into_owned(),
                    )
                })
                .collect(),
            body: Vec::new(),
            chunks: Vec::new(),
            end: End::Complete,
        })
    }

    /// Reads a whole answer, `100 Continue` passed over. Panics where not even a head came.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET")
            .await
            .expect("the connection was closed without an answer")
    }

    /// The same; `None` without a head. An answer to `HEAD` has no body.
    pub(crate) async fn response_to(&mut self, method: &str) -> Option<Response> {
        let mut response = self.head().await?;
        while response.status == 100 {
            response = self.head().await?;
        }
        if method == "HEAD" || response.status == 204 || response.status == 304 {
            return Some(response);
        }
        let chunked = response.header("transfer-encoding").is_some();
        let length = response
            .header("content-length")
            .map(|value| value.parse::<usize>().unwrap());
        match length {
            _ if chunked => while self.chunk(&mut response).await {},
            Some(length) => {
                while self.buffer.len() < length {
                    if !self.fill().await {
                        response.end = End::Cut;
                        break;
                    }
                }
                response.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
            }
            None => {
                while self.fill().await {}
                response.body = std::mem::take(&mut self.buffer);
            }
        }
        Some(response)
    }

    /// Reads one chunk into `response`; false after the last.
    pub(crate) async fn chunk(&mut self, response: &mut Response) -> bool {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let size = usize::from_str_radix(
                    std::str::from_utf8(&self.buffer[..at]).unwrap().trim(),
                    16,
                )
                .unwrap();
                if self.buffer.len() >= at + 2 + size + 2 {
                    let body = self.buffer[at + 2..at + 2 + size].to_vec();
                    self.buffer.drain(..at + size + 4);
                    if size == 0 {
                        return false;
                    }
                    response.chunks.push(size);
                    response.body.extend_from_slice(&body);
                    return true;
                }
            }
            if !self.fill().await {
                response.end = End::Cut;
                return false;
            }
        }
    }

    /// Whether the other side closes the connection now.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }

    /// Closes with a reset, as a client that crashed.
    pub(crate) fn reset(self) {
        let socket = self.stream.into_std().unwrap();
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

/// `GET path` on a fresh connection.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(addr).await;
    client
        .send(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n"))
        .await;
    client.response().await
}

/// A request head with a JSON body.
pub(crate) fn json_post(addr: SocketAddr, path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `POST path` with a JSON body on a fresh connection.
pub(crate) async fn post(addr: SocketAddr, path: &str, body: &str) -> Response {
    let mut client = Client::connect(addr).await;
    client.send(json_post(addr, path, body)).await;
    client.response().await
}
