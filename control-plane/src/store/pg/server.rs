//! A Postgres server as a URL names it, and connections to it. `sslmode` and `sslrootcert` mean what they mean to
//! libpq (<https://www.postgresql.org/docs/current/libpq-ssl.html>, tables 32.1 and "root CA"), except that the
//! system's authorities stand in where libpq looks for a file in the home folder.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error};
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::DatabaseUrlError;

/// How long a TCP connection to one address may take, where the URL says nothing of it.
const TCP: Duration = Duration::from_secs(3);
/// How long what was sent may go unacknowledged, where the URL says nothing of it.
const UNHEARD: Duration = Duration::from_secs(10);

/// A Postgres server, and how connections to it are made.
#[derive(Clone)]
pub struct PgServer {
    url: String,
    config: Arc<Config>,
    tls: MakeRustlsConnect,
    mode: Mode,
}

/// What a connection must be, by `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// No TLS.
    Disable,
    /// TLS where the server has it; its certificate is not looked at.
    Prefer,
    /// TLS; the certificate is not looked at unless `sslrootcert` names authorities.
    Require,
    /// TLS, and a certificate of a known authority.
    VerifyCa,
    /// TLS, and a certificate of a known authority for this host.
    VerifyFull,
}

impl Mode {
    fn of(text: &str) -> Result<Self, DatabaseUrlError> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(DatabaseUrlError::SslMode),
        })
    }

    fn for_client(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

impl PgServer {
    /// The server at a URL such as `postgres://user:password@host:5432/database?sslmode=verify-full`. Reads the file of its authorities, if it names one.
    pub(crate) fn at(url: &str) -> Result<Self, DatabaseUrlError> {
        let Url { rest, mode, file } = Url::of(url)?;
        let mode = match mode.as_deref().map_or(Ok(Mode::Prefer), Mode::of)? {
            Mode::Require if file.is_some() => Mode::VerifyCa,
            mode => mode,
        };
        // the client's own words may repeat a part of the password
        let config = rest.parse::<Config>();
        let mut config = config.map_err(|_| DatabaseUrlError::Malformed)?;
        if config.get_ssl_mode() != SslMode::Prefer {
            // a mode that only the client found would count for nothing
            return Err(DatabaseUrlError::Malformed);
        }
        let is_socket = |host: &Host| matches!(host, Host::Unix(_));
        let hosts = config.get_hosts();
        let mode = if !hosts.is_empty() && hosts.iter().all(is_socket) {
            Mode::Disable // a socket of this machine has no TLS
        } else {
            mode
        };
        config.ssl_mode(mode.for_client());
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(TCP);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNHEARD);
        }
        let tls = MakeRustlsConnect::new(tls(mode, file.as_deref())?);
        Ok(Self {
            url: url.to_owned(),
            config: Arc::new(config),
            tls,
            mode,
        })
    }

    /// Its URL as it was given, with the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the server must have TLS and may have anybody's.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.mode == Mode::Require
    }

    /// A new connection; it fails after `patience` at the latest, whatever the server does. An error holds the
    /// server's own words, or the whole chain of what went wrong on the way, and nothing of the URL.
    pub(crate) async fn connect(&self, patience: Duration) -> ConnectionResult<AsyncPgConnection> {
        let connected = async {
            let connected = self.config.connect(self.tls.clone()).await;
            let (client, connection) = connected.map_err(|error| of_client(&error))?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        };
        let late = |_| ConnectionError::BadConnection("no answer in time".to_owned());
        tokio::time::timeout(patience, connected)
            .await
            .map_err(late)?
    }
}

impl PartialEq for PgServer {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for PgServer {}

impl fmt::Debug for PgServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgServer")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// As diesel has it, of whom only a `DatabaseError` keeps words apart.
fn of_client(error: &tokio_postgres::Error) -> ConnectionError {
    let (kind, words) = match error.as_db_error() {
        Some(error) => (DatabaseErrorKind::Unknown, error.message().to_owned()),
        None => (DatabaseErrorKind::UnableToSendCommand, words(error)),
    };
    ConnectionError::CouldntSetupConfiguration(Error::DatabaseError(kind, Box::new(words)))
}

/// An error and what is behind it.
fn words(error: &tokio_postgres::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// A URL without what the client library has no word for.
struct Url {
    rest: String,
    mode: Option<String>,
    file: Option<String>,
}

impl Url {
    fn of(url: &str) -> Result<Self, DatabaseUrlError> {
        // as the client reads it: what stands before an `@` is a user and a password, whatever is in it
        let host = url.find('@').map_or(0, |at| at + 1);
        let end = url[host..].find('?').map(|at| host + at);
        let (address, query) = end.map_or((url, ""), |at| (&url[..at], &url[at + 1..]));
        let (mut mode, mut file, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "sslmode" => mode = Some(decoded(value)?),
                "sslrootcert" => file = Some(decoded(value)?),
                "sslcert" | "sslkey" => return Err(DatabaseUrlError::ClientCertificate),
                _ => rest.push(pair),
            }
        }
        let rest = if rest.is_empty() {
            address.to_owned()
        } else {
            format!("{address}?{}", rest.join("&"))
        };
        Ok(Self { rest, mode, file })
    }
}

fn decoded(value: &str) -> Result<String, DatabaseUrlError> {
    let text = percent_encoding::percent_decode_str(value).decode_utf8();
    text.map(std::borrow::Cow::into_owned)
        .map_err(|_| DatabaseUrlError::Malformed)
}

// --- TLS ---------------------------------------------------------------------------------------------------------

fn tls(mode: Mode, file: Option<&str>) -> Result<ClientConfig, DatabaseUrlError> {
    let provider = ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3");
    let checked_by = match mode {
        Mode::Disable | Mode::Prefer | Mode::Require => None,
        Mode::VerifyCa => Some(authorities(file)?),
        Mode::VerifyFull => {
            let config = config.with_root_certificates(authorities(file)?);
            return Ok(config.with_no_client_auth());
        }
    };
    let verifier = AnyHost {
        authorities: checked_by,
        algorithms,
    };
    Ok(config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Those of a file, or the system's.
fn authorities(file: Option<&str>) -> Result<RootCertStore, DatabaseUrlError> {
    let mut store = RootCertStore::empty();
    match file {
        None | Some("system") => {
            // as OpenSSL does: one that cannot be read is no reason to trust none
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(file) => {
            let unreadable = |why: String| DatabaseUrlError::Authorities {
                file: file.to_owned(),
                why,
            };
            let read =
                CertificateDer::pem_file_iter(file).map_err(|e| unreadable(e.to_string()))?;
            for certificate in read {
                let certificate = certificate.map_err(|e| unreadable(e.to_string()))?;
                let added = store.add(certificate);
                added.map_err(|e| unreadable(e.to_string()))?;
            }
        }
    }
    if store.is_empty() {
        return Err(DatabaseUrlError::Authorities {
            file: file.unwrap_or("system").to_owned(),
            why: "holds no certificate".to_owned(),
        });
    }
    Ok(store)
}

/// Takes a certificate whatever host it names: anybody's, or one of known authorities.
#[derive(Debug)]
struct AnyHost {
    authorities: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(authorities) = &self.authorities {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                authorities,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Mode {
        PgServer::at(url).unwrap().mode
    }

    #[test]
    fn a_mode_means_what_it_means_to_libpq() {
        assert_eq!(mode("postgres://u:p@h/d"), Mode::Prefer);
        assert_eq!(mode("postgres://h/d?sslmode=disable"), Mode::Disable);
        let socket = "postgres:///d?host=/run/postgresql&sslmode=verify-full";
        assert_eq!(mode(socket), Mode::Disable);
        let address = "postgres:///d?hostaddr=10.0.0.1&sslmode=require";
        assert_eq!(mode(address), Mode::Require);
        let required = "postgres://h/d?application_name=a&sslmode=require&connect_timeout=7";
        assert_eq!(mode(required), Mode::Require);
        let config = PgServer::at(required).unwrap().config;
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(config.get_application_name(), Some("a"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&UNHEARD));
    }

    #[test]
    fn what_cannot_be_done_says_so_without_the_password() {
        for (query, words) in [
            ("sslmode=allow", "verify-full"),
            ("sslcert=a&sslkey=b", "client certificate"),
            (
                "sslrootcert=/nowhere/ca.pem&sslmode=verify-ca",
                "/nowhere/ca.pem",
            ),
            ("sslmode=%ff", "cannot be read"),
            ("hush=red", "an option that is not known"),
            ("ssl%6Dode=require", "an option that is not known"),
        ] {
            let error = PgServer::at(&format!("postgres://u:hush@h/d?{query}")).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(words) && !error.contains("hush"), "{error}");
        }
        let odd = "postgres://u:a?b@h/d?sslmode=verify-full&sslrootcert=system";
        assert_eq!(mode(odd), Mode::VerifyFull);
    }
}
