//! TLS in front of a simulated node, with throw-away certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// An authority that lives as long as its test.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // its own name, as authorities have: of two equal ones the wrong would be a bad signature
        let name = format!("authority {:x?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// Its certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its certificate as a file.
    pub(crate) fn write_to(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, self.pem()).unwrap();
        path
    }

    /// A certificate for a server of this name, and its key: PEM.
    pub(crate) fn pair(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What a server of this name needs.
    pub(crate) fn server(&self, name: &str) -> ServerConfig {
        self.server_with(&CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// What a server with a certificate like this needs.
    pub(crate) fn server_with(&self, params: &CertificateParams) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        server_config(&certificate, &key)
    }
}

/// What a server needs that shows this certificate.
pub(crate) fn server_config(certificate: &Certificate, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap()
}

/// A listener that speaks TLS and hands on what comes.
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    /// In front of `target`, on a free port of 127.0.0.1.
    pub(crate) async fn start(server: ServerConfig, target: SocketAddr) -> Self {
        Self::start_on(server, target, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same on an address.
    pub(crate) async fn start_on(
        server: ServerConfig,
        target: SocketAddr,
        addr: SocketAddr,
    ) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // an error means that the client did not like the certificate
                    if let Ok(mut inner) = acceptor.accept(stream).await {
                        let mut outer = TcpStream::connect(target).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
                    }
                });
            }
        });
        Self { addr, task }
    }

    /// Where it listens, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.addr)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
