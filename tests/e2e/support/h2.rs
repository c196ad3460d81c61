//! A client that speaks HTTP/2, plain or over TLS, and throw-away certificates.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{Method, Request};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;
use super::client::{End, Response};

/// A certificate for localhost that was made a moment ago.
pub(crate) struct Tls {
    made: CertifiedKey<KeyPair>,
}

impl Tls {
    pub(crate) fn make() -> Self {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { made }
    }

    /// Writes both files into a folder, replacing those before.
    pub(crate) fn write(&self, folder: &Path) {
        for (name, text) in [
            ("cert.pem", self.made.cert.pem()),
            ("key.pem", self.made.signing_key.serialize_pem()),
        ] {
            let new = folder.join(format!("{name}.new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, folder.join(name)).unwrap();
        }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.made.cert.der().clone()
    }

    /// Connects, trusting this certificate only; an error where another one is shown.
    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_after(b"", addr, alpn).await
    }

    /// The same, after some bytes of a balancer's.
    pub(crate) async fn connect_after(
        &self,
        before: &[u8],
        addr: SocketAddr,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        connect(&[self], before, addr, alpn).await
    }

    /// The same without such bytes, trusting `other`, too.
    pub(crate) async fn or(
        &self,
        other: &Self,
        addr: SocketAddr,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        connect(&[self, other], b"", addr, alpn).await
    }

    /// Whether this is the certificate that the other side has shown.
    pub(crate) fn is_shown(&self, stream: &TlsStream<TcpStream>) -> bool {
        let shown = stream.get_ref().1.peer_certificates();
        shown.is_some_and(|shown| shown[0] == self.der())
    }
}

/// Connects, trusting these certificates.
async fn connect(
    trusted: &[&Tls],
    before: &[u8],
    addr: SocketAddr,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for tls in trusted {
        roots.add(tls.der()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(before).await?;
    connector
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
}

/// Marks a request whose body never comes.
#[derive(Clone)]
struct Unfinished;

/// One HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct H2 {
    send: SendRequest<Bytes>,
    authority: String,
    scheme: &'static str,
    ended: tokio::sync::watch::Receiver<bool>,
}

/// A request under way.
pub(crate) struct Open {
    pub(crate) head: Response,
    body: RecvStream,
    /// Dropping it before the body's end resets the stream.
    send: SendStream<Bytes>,
}

impl H2 {
    /// With prior knowledge.
    pub(crate) async fn plain(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).await.unwrap();
        Self::over(socket, addr.to_string(), "http").await
    }

    /// Over TLS, agreed upon by ALPN.
    pub(crate) async fn tls(addr: SocketAddr, tls: &Tls) -> Self {
        Self::within(tls.connect(addr, &["h2", "http/1.1"]).await.unwrap()).await
    }

    /// On a connection that agreed to it.
    pub(crate) async fn within(stream: TlsStream<TcpStream>) -> Self {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let port = stream.get_ref().0.peer_addr().unwrap().port();
        Self::over(stream, format!("localhost:{port}"), "https").await
    }

    async fn over<S>(stream: S, authority: String, scheme: &'static str) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // by default this crate ends a connection on which some two hundred short frames wait to be read: tokens
        // of many streams do, where the test has to wait for a processor
        let handshake = h2::client::Builder::new()
            .data_frame_budget(1 << 24)
            .handshake(stream);
        let (send, connection) = handshake.await.unwrap();
        let (done, ended) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            let _ = connection.await;
            let _ = done.send(true);
        });
        Self {
            send,
            authority,
            scheme,
            ended,
        }
    }

    /// A request's head.
    pub(crate) fn head(&self, method: Method, path: &str) -> Request<()> {
        Request::builder()
            .method(method)
            .uri(format!("{}://{}{path}", self.scheme, self.authority))
            .header("content-type", "application/json")
            .body(())
            .unwrap()
    }

    /// A request's head whose body never comes.
    pub(crate) fn unfinished(&self, path: &str) -> Request<()> {
        let mut head = self.head(Method::POST, path);
        head.extensions_mut().insert(Unfinished);
        head
    }

    /// Sends a head and pieces of a body; the last one carries the end, as `h2` has it.
    pub(crate) async fn open(&self, head: Request<()>, body: &[&[u8]]) -> Result<Open, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let unfinished = head.extensions().get::<Unfinished>().is_some();
        let (answer, mut stream) = send.send_request(head, body.is_empty() && !unfinished)?;
        for (index, piece) in body.iter().enumerate() {
            let end = index + 1 == body.len();
            if send_all(&mut stream, piece, end).await.is_err() {
                break; // the answer says why: it came first, or the stream was reset
            }
        }
        let answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("no answer in time")?;
        let (parts, body) = answer.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Ok(Open {
            head: Response {
                status: parts.status.as_u16(),
                headers: headers.collect(),
                body: Vec::new(),
                chunks: Vec::new(),
                end: End::Complete,
            },
            body,
            send: stream,
        })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, head: Request<()>, body: &[&[u8]]) -> Response {
        self.open(head, body).await.unwrap().rest().await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(self.head(Method::GET, path), &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Response {
        self.send(self.head(Method::POST, path), &[body.as_bytes()])
            .await
    }

    /// Opens a stream and leaves it so; dropping what comes back resets it.
    pub(crate) async fn begin(&self, head: Request<()>) -> Result<SendStream<Bytes>, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        Ok(send.send_request(head, false)?.1)
    }

    /// Opens a stream and resets it at once; false where the connection is over.
    pub(crate) async fn open_and_reset(&self, head: Request<()>) -> bool {
        let Ok(mut send) = self.send.clone().ready().await else {
            return false;
        };
        let Ok((_, mut stream)) = send.send_request(head, false) else {
            return false;
        };
        // the head must have left before it is taken back
        tokio::task::yield_now().await;
        stream.send_reset(h2::Reason::CANCEL);
        true
    }

    /// Waits until the other side has ended the connection.
    pub(crate) async fn ends(&mut self) {
        tokio::time::timeout(PATIENCE, self.ended.wait_for(|ended| *ended))
            .await
            .expect("the connection goes on")
            .unwrap();
    }
}

impl Open {
    /// Reads on; false at the end.
    pub(crate) async fn chunk(&mut self) -> bool {
        let chunk = tokio::time::timeout(PATIENCE, self.body.data()).await;
        match chunk.expect("no answer in time") {
            Some(Ok(bytes)) => {
                let _ = self.body.flow_control().release_capacity(bytes.len());
                self.head.chunks.push(bytes.len());
                self.head.body.extend_from_slice(&bytes);
                true
            }
            Some(Err(error)) => {
                eprintln!("a stream broke off: {error}"); // shown with a test that fails
                self.head.end = End::Cut;
                false
            }
            None => false,
        }
    }

    /// Reads to the end.
    pub(crate) async fn rest(mut self) -> Response {
        while self.chunk().await {}
        self.head
    }

    /// Goes away in the middle.
    pub(crate) fn reset(mut self) {
        self.send.send_reset(h2::Reason::CANCEL);
    }
}

/// Sends within the windows of the other side.
async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut bytes: &[u8],
    end: bool,
) -> Result<(), h2::Error> {
    if bytes.is_empty() {
        return stream.send_data(Bytes::new(), end);
    }
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else {
            return Ok(()); // answered before all was sent
        };
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        bytes = later;
        stream.send_data(Bytes::copy_from_slice(now), end && later.is_empty())?;
    }
    Ok(())
}
