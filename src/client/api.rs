//! The REST API over HTTP: one connection, no redirects, no proxy of the environment's, for the token is sent to
//! the server that was named and to nobody else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::fleet_doc::Secret;
use http::{Method, Request, Uri};
use rustls::crypto::ring;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody};

use super::failure::{Failure, Problem};

/// For TCP and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole request: far above what any of them takes.
const WHOLE: Duration = Duration::from_secs(60);
/// The longest answer, bytes.
const LONGEST: u64 = 64 << 20;
/// Rows that are asked for at a time.
const PART: usize = 1000;

/// A server and a login there.
pub(super) struct Api {
    agent: Agent,
    /// Without a `/` at its end.
    base: String,
    token: Option<Secret>,
}

/// What a request says.
struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<(&'static str, String)>,
    /// Only if it is at this version.
    version: Option<String>,
}

impl Api {
    /// The API at an address, without a login. Behind https the certificate is vouched for by `ca`, or by the
    /// system's authorities.
    pub(super) fn new(server: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let base = base(server)?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE))
            .user_agent(concat!("aivonx/", env!("CARGO_PKG_VERSION")));
        if base.starts_with("https://") {
            config = config.tls_config(tls(ca)?);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            base,
            token: None,
        })
    }

    /// The same with a login.
    pub(super) fn with_token(mut self, token: Option<Secret>) -> Self {
        self.token = token;
        self
    }

    /// The server, as logins are kept for it.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Reads an object.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None)
    }

    /// Reads all parts of a list.
    pub(super) fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let part = format!("{path}{joint}limit={PART}&offset={}", rows.len());
            let mut part = self.get(&part)?;
            let is_last = part["next"].is_null();
            match part["results"].take() {
                Value::Array(more) if !more.is_empty() => rows.extend(more),
                Value::Array(_) => return Ok(rows),
                _ => return Err(self.stranger()),
            }
            if is_last {
                return Ok(rows);
            }
        }
    }

    /// Sends an object; gives what is answered, null where that is nothing.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.change(method, path, body, None)
    }

    /// The same, only if what is changed is at this version.
    pub(super) fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        version: Option<i64>,
    ) -> Result<Value, Failure> {
        let body = body.map(|body| ("application/json", body.to_string()));
        let text = self.text(Call {
            method,
            path,
            body,
            version: version.map(|version| version.to_string()),
        })?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|_| self.stranger())
    }

    /// Reads a document as it is.
    pub(super) fn document(&self, path: &str) -> Result<String, Failure> {
        self.text(Call {
            method: Method::GET,
            path,
            body: None,
            version: None,
        })
    }

    /// Sends a document in YAML, meant for what is at this version.
    pub(super) fn send_document(
        &self,
        path: &str,
        yaml: &str,
        version: Option<String>,
    ) -> Result<Value, Failure> {
        let text = self.text(Call {
            method: Method::POST,
            path,
            body: Some(("application/yaml", yaml.to_owned())),
            version,
        })?;
        serde_json::from_str(&text).map_err(|_| self.stranger())
    }

    fn text(&self, call: Call<'_>) -> Result<String, Failure> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.base, call.path))
            .header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        if let Some(version) = call.version {
            request = request.header("if-match", format!("\"{version}\""));
        }
        match call.body {
            Some((kind, text)) => self.run(request.header("content-type", kind), text),
            None if call.method == Method::POST => self.run(request, String::new()),
            None => self.run(request, ()),
        }
    }

    fn run(
        &self,
        request: http::request::Builder,
        body: impl AsSendBody,
    ) -> Result<String, Failure> {
        // the error may hold the token
        let request = request.body(body).map_err(|_| {
            Failure::Usage("the token, or a name, has letters that no request can carry".to_owned())
        })?;
        let mut answer = self.agent.run(request).map_err(|error| self.away(&error))?;
        let status = answer.status();
        let read = answer.body_mut().with_config().limit(LONGEST);
        let text = read.read_to_string().map_err(|error| self.away(&error))?;
        if status.is_success() {
            return Ok(text);
        }
        if status.is_redirection() {
            return Err(self.stranger());
        }
        Err(Failure::Answer(Problem::read(status.as_u16(), &text)))
    }

    fn away(&self, error: &ureq::Error) -> Failure {
        let mut words = format!("{} does not answer: {error}", self.base);
        if words.contains("certificate") {
            words.push_str("\n  --ca FILE names the authority that vouches for it");
        }
        Failure::Unreachable(words)
    }

    fn stranger(&self) -> Failure {
        let words = "answers, but not as aivonx does; is it the right address?";
        Failure::Protocol(format!("{} {words}", self.base))
    }
}

/// The row whose id a text is.
pub(super) fn by_id<'a>(rows: &'a [Value], text: &str) -> Option<&'a Value> {
    let id: i64 = text.parse().ok()?;
    rows.iter().find(|row| row["id"] == id)
}

fn base(server: &str) -> Result<String, Failure> {
    let text = server.trim_end_matches('/');
    let uri = text.parse::<Uri>().ok();
    let fits = uri.is_some_and(|uri| {
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let is_bare = uri.authority().is_some_and(|to| !to.as_str().contains('@'));
        is_http && is_bare && uri.query().is_none()
    });
    if fits {
        return Ok(text.to_owned());
    }
    // not repeated: it may hold a password
    let words = "the server must be an address such as https://aivonx.example:8000, without a user or a query";
    Err(Failure::Usage(words.to_owned()))
}

fn tls(ca: Option<&Path>) -> Result<TlsConfig, Failure> {
    let roots = match ca {
        Some(file) => authorities(file)?,
        None => system_authorities()?,
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn authorities(file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = std::fs::read(file).map_err(|error| Failure::reading(file, &error))?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = items.collect();
    if found.is_empty() {
        let words = format!("{}: holds no certificate in PEM", file.display());
        return Err(Failure::Input(words));
    }
    Ok(found)
}

fn system_authorities() -> Result<Vec<Certificate<'static>>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found
            .errors
            .first()
            .map_or_else(|| "there are none".to_owned(), ToString::to_string);
        let words = "the system's authorities cannot be read; --ca FILE names one";
        return Err(Failure::Config(format!("{words}: {why}")));
    }
    let found = found.certs.iter();
    Ok(found
        .map(|der| Certificate::from_der(der).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_and_nothing_else() {
        for (text, fits) in [
            ("http://127.0.0.1:8000", true),
            ("https://aivonx.example/base/", true),
            ("aivonx.example:8000", false),
            ("ftp://h", false),
            ("http://", false),
            ("http://user:secret@h", false),
            ("http://h?x=1", false),
        ] {
            match base(text) {
                Ok(base) => assert!(fits && !base.ends_with('/'), "{text}: {base}"),
                Err(failure) => {
                    assert!(!fits, "{text}: {failure}");
                    assert!(!failure.to_string().contains("secret"));
                    assert_eq!(failure.code(), 2);
                }
            }
        }
    }
}
