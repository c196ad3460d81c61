//! The certificate of the TLS listener: read, checked against its key, and read again when its files
//! change. A pair that is not good leaves the one before in force.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::config::TlsConfig;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Files are looked at this often, and taken once they stood still for as long: a certificate and
/// its key are two files, replaced one after the other.
const EVERY: Duration = Duration::from_millis(500);

/// Why a certificate was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{path}: {problem}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// The certificate in force.
pub(crate) struct Certificate {
    files: TlsConfig,
    provider: Arc<CryptoProvider>,
    now: ArcSwap<CertifiedKey>,
    /// What was read at the start, until somebody follows the files.
    first: Mutex<Option<Pair>>,
}

/// The text of both files.
type Pair = (Vec<u8>, Vec<u8>);

impl Certificate {
    /// Reads and checks the files.
    pub(crate) fn load(files: &TlsConfig) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = read(files)?;
        let now = checked(files, &pair, &provider)?;
        Ok(Self {
            files: files.clone(),
            provider,
            now: ArcSwap::from_pointee(now),
            first: Mutex::new(Some(pair)),
        })
    }

    /// What the listener hands to rustls: TLS 1.2 and 1.3, HTTP/2 preferred.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Follows the files until the process ends. Open connections keep the certificate they began
    /// with.
    pub(crate) async fn follow(&self) {
        let mut taken = self.first.lock().take();
        let mut before = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let files = self.files.clone();
            // two small files; still, a network file system may take its time
            let Ok(now) = tokio::task::spawn_blocking(move || read(&files)).await else {
                return;
            };
            let now = now.map_err(|error| error.to_string());
            let settled = before.as_ref() == Some(&now);
            if settled && now.as_ref().ok() != taken.as_ref() {
                self.take(&now);
                taken = now.as_ref().ok().cloned();
            }
            before = Some(now);
        }
    }

    fn take(&self, pair: &Result<Pair, String>) {
        let checked = pair.clone().and_then(|pair| {
            checked(&self.files, &pair, &self.provider).map_err(|error| error.to_string())
        });
        match checked {
            Ok(key) => {
                self.now.store(Arc::new(key));
                tracing::info!(tls.certificate = %self.files.certificate.display(), "certificate is in force");
            }
            Err(why) => {
                tracing::error!(tls.certificate = %self.files.certificate.display(), why, "certificate is not taken; the one before stays in force");
            }
        }
    }
}

/// The key stays out of it.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate")
            .field(&self.files.certificate)
            .finish()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.load_full())
    }
}

fn read(files: &TlsConfig) -> Result<Pair, CertificateError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| CertificateError::Unreadable {
            path: path.to_owned(),
            error,
        })
    };
    Ok((read(&files.certificate)?, read(&files.key)?))
}

/// The pair, if both are what they should be and belong together.
fn checked(
    files: &TlsConfig,
    (certificate, key): &Pair,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let wrong = |path: &Path, problem: String| CertificateError::Wrong {
        path: path.to_owned(),
        problem,
    };
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&files.certificate, format!("no PEM: {error}")))?;
    if chain.is_empty() {
        let problem = "holds no certificate (PEM, `-----BEGIN CERTIFICATE-----`)".to_owned();
        return Err(wrong(&files.certificate, problem));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        wrong(
            &files.key,
            "holds no private key (PEM, unencrypted)".to_owned(),
        )
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => wrong(
            &files.key,
            format!("is not the key of {}", files.certificate.display()),
        ),
        rustls::Error::InvalidCertificate(_) => wrong(
            &files.certificate,
            "its first certificate cannot be read".to_owned(),
        ),
        _ => wrong(&files.key, "is of a kind that is not supported".to_owned()),
    })
}
