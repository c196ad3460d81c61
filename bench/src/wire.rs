//! What a request goes over: a TCP connection, or TLS on one.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The client's side of TLS. It offers one version, one cipher and one key exchange and resumes no
/// session, so that every server does the same work.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// What the first connection agreed upon.
    agreed: Arc<OnceLock<String>>,
}

impl Tls {
    /// Trusts the certificates in a PEM file, and wants `protocol` by ALPN.
    pub(crate) fn trusting(file: &Path, protocol: &str) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
            let certificate = certificate.map_err(io::Error::other)?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        let provider = CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Self {
            connector: Arc::new(config).into(),
            name: ServerName::try_from("localhost").expect("it is a name"),
            agreed: Arc::default(),
        })
    }

    /// What was agreed upon: version, cipher, key exchange and protocol.
    pub(crate) fn agreed(&self) -> Option<&str> {
        self.agreed.get().map(String::as_str)
    }

    async fn over(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let session = stream.get_ref().1;
        // a server that ignores ALPN would be spoken to in a protocol that it does not expect
        if session.alpn_protocol().is_none() {
            return Err(io::Error::other("the server chose no protocol"));
        }
        self.agreed.get_or_init(|| describe(session));
        Ok(stream)
    }
}

fn describe(session: &ClientConnection) -> String {
    let version = session.protocol_version().map(|one| format!("{one:?}"));
    let cipher = session.negotiated_cipher_suite();
    let cipher = cipher.map(|one| format!("{:?}", one.suite()));
    let exchange = session.negotiated_key_exchange_group();
    let exchange = exchange.map(|one| format!("{:?}", one.name()));
    let protocol = session.alpn_protocol();
    let protocol = protocol.map(|one| String::from_utf8_lossy(one).into_owned());
    let all = [version, cipher, exchange, protocol].into_iter();
    all.map(Option::unwrap_or_default)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A connection.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

thread_local! {
    /// Room to read into; one thread runs all clients, and those without TLS wait without it.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Wire {
    pub(crate) async fn connect(target: SocketAddr, tls: Option<&Tls>) -> io::Result<Self> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        match tls {
            Some(tls) => Ok(Self::Tls(Box::new(tls.over(stream).await?))),
            None => Ok(Self::Plain(stream)),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Reads more into `buffer`; what was read out of it goes back with [`spare`].
    pub(crate) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let read = match self {
            Self::Plain(stream) => loop {
                stream.readable().await?;
                room(buffer);
                match stream.try_read_buf(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => break read?,
                }
            },
            Self::Tls(stream) => {
                room(buffer);
                stream.read_buf(buffer).await?
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Ends the connection in order: TLS says so to the other side.
    pub(crate) async fn close(self) -> io::Result<()> {
        match self {
            Self::Plain(mut stream) => stream.shutdown().await,
            Self::Tls(mut stream) => stream.shutdown().await,
        }
    }
}

fn room(buffer: &mut Vec<u8>) {
    if buffer.is_empty() {
        *buffer = SPARE.take();
        buffer.reserve(32 << 10);
    }
}

/// Gives an empty buffer to whoever reads next.
pub(crate) fn spare(buffer: &mut Vec<u8>) {
    if buffer.is_empty() {
        SPARE.set(std::mem::take(buffer));
    }
}
