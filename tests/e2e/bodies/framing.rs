//! The ways in which a client puts a body on the wire.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;

use crate::support::{Client, H2, Response};

/// How a body is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Framing {
    Length,
    LengthSlow,
    Expect,
    Chunked16K,
    ChunkedOne,
    Http2Length,
    /// Without a length; the last bytes carry the end.
    Http2,
    /// Without a length; the end comes in a frame of its own.
    Http2EndApart,
}

pub(super) const FRAMINGS: [Framing; 8] = [
    Framing::Length,
    Framing::LengthSlow,
    Framing::Expect,
    Framing::Chunked16K,
    Framing::ChunkedOne,
    Framing::Http2Length,
    Framing::Http2,
    Framing::Http2EndApart,
];

impl Framing {
    pub(super) fn is_chunked(self) -> bool {
        matches!(self, Self::Chunked16K | Self::ChunkedOne)
    }

    pub(super) fn is_http_2(self) -> bool {
        matches!(self, Self::Http2Length | Self::Http2 | Self::Http2EndApart)
    }
}

/// Posts a chat on a connection of its own.
pub(super) async fn send(addr: SocketAddr, body: &[u8], framing: Framing) -> Response {
    if framing.is_http_2() {
        return over_http_2(addr, body, framing).await;
    }
    let mut client = Client::connect(addr).await;
    let head = format!("POST /api/chat HTTP/1.1\r\nHost: {addr}\r\n");
    if framing.is_chunked() {
        in_chunks(&mut client, &head, body, framing).await;
    } else {
        with_length(&mut client, &head, body, framing).await;
    }
    client.response().await
}

async fn with_length(client: &mut Client, head: &str, body: &[u8], framing: Framing) {
    let expect = if framing == Framing::Expect {
        "Expect: 100-continue\r\n"
    } else {
        ""
    };
    let length = body.len();
    client
        .send(format!("{head}{expect}Content-Length: {length}\r\n\r\n"))
        .await;
    if framing == Framing::Expect {
        let go_on = client.head().await.unwrap();
        assert_eq!(go_on.status, 100);
    }
    let pieces = if framing == Framing::LengthSlow { 7 } else { 1 };
    for part in body.chunks(length.div_ceil(pieces).max(1)) {
        client.send(part).await;
        if framing == Framing::LengthSlow {
            tokio::time::sleep(Duration::from_millis(1)).await; // what is slow is the point here
        }
    }
}

async fn in_chunks(client: &mut Client, head: &str, body: &[u8], framing: Framing) {
    client
        .send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"))
        .await;
    let piece = if framing == Framing::Chunked16K {
        16 << 10
    } else {
        body.len().max(1)
    };
    for part in body.chunks(piece) {
        let size = format!("{:x}\r\n", part.len());
        client.send([size.as_bytes(), part, b"\r\n"].concat()).await;
    }
    client.send(b"0\r\n\r\n").await;
}

async fn over_http_2(addr: SocketAddr, body: &[u8], framing: Framing) -> Response {
    let h2 = H2::plain(addr).await;
    let mut head = h2.head(Method::POST, "/api/chat");
    if framing == Framing::Http2Length {
        let length = body.len().into();
        head.headers_mut().insert("content-length", length);
    }
    let pieces = match framing {
        Framing::Http2EndApart => &[body, b""][..],
        _ if body.is_empty() => &[],
        _ => &[body],
    };
    h2.send(head, pieces).await
}
