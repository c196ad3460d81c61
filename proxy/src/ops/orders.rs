//! What a control plane asks for (`aivonx_shared::operations`): reads an order, judges its token, and has it
//! carried out by `probe` and `store`.

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::operations::{ProbeOrder, PullOrder};
use http::{Method, Response, StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::answer;
use crate::probe::Probes;
use crate::store::ordered::{NotBegun, Pulls};

/// Longest body of an order, bytes.
const LONGEST: usize = 64 << 10;
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest id of a pull, bytes. It is compared as it stands in the path.
const LONGEST_ID: usize = 200;

/// Carries out orders.
pub(crate) struct Orders {
    /// What an asker must show; without it nobody may ask.
    pub(crate) token: Option<Token>,
    pub(crate) probes: Arc<Probes>,
    pub(crate) pulls: Pulls,
}

/// A token, kept as its digest: so two of any length are compared in the same time.
pub(crate) struct Token([u8; 32]);

impl Token {
    /// Of this text.
    pub(crate) fn of(text: &Secret) -> Self {
        Self::digest(text.reveal().as_bytes())
    }

    fn digest(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    fn is(&self, given: &[u8]) -> bool {
        Self::digest(given).0.ct_eq(&self.0).into()
    }
}

/// Why an order was not carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error(
        "there is no operations token: set proxy.operations_token, and control_plane.operations_token to the same"
    )]
    NoToken,
    #[error(
        "not the operations token of this data plane: proxy.operations_token and control_plane.operations_token \
         must be the same"
    )]
    WrongToken,
    #[error("only {0} here")]
    Method(&'static str),
    #[error("an id of a pull has 1 to {LONGEST_ID} characters and no slash")]
    Id,
    #[error("no pull of this id is known here")]
    UnknownPull,
    #[error("the body is too long: {LONGEST} bytes at most")]
    TooLong,
    #[error("the body did not arrive in time")]
    Late,
    #[error("the body broke off")]
    Broken,
    #[error("the body is no such order: {0}")]
    Junk(String),
    #[error("{0}")]
    NotBegun(#[from] NotBegun),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoToken => StatusCode::FORBIDDEN,
            Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownPull | Self::NotBegun(NotBegun::Node(_)) => StatusCode::NOT_FOUND,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Id | Self::Broken | Self::Junk(_) | Self::NotBegun(NotBegun::Model) => {
                StatusCode::BAD_REQUEST
            }
            Self::NotBegun(NotBegun::Full | NotBegun::Draining) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The header that its status wants.
    fn header(&self) -> Option<(header::HeaderName, &'static str)> {
        match self {
            Self::WrongToken => Some((header::WWW_AUTHENTICATE, "Bearer")),
            Self::Method(methods) => Some((header::ALLOW, methods)),
            Self::NotBegun(NotBegun::Full | NotBegun::Draining) => Some((header::RETRY_AFTER, "5")),
            _ => None,
        }
    }
}

type Done = Result<Vec<u8>, Refused>;

impl Orders {
    /// Whether this path is one for orders.
    pub(super) fn takes(path: &str) -> bool {
        path == "/probe" || path.starts_with("/pulls/")
    }

    /// Carries an order out, and answers it in JSON.
    pub(super) async fn answer(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let done = Box::pin(self.carry_out(session)).await;
        if !session.is_body_done() {
            // else the answer may be overtaken by a reset; what is too long or late is left unread
            let _ = tokio::time::timeout(PATIENCE, body(session)).await;
        }
        if !session.is_body_done() {
            session.set_keepalive(None); // what is left of it must not be taken for a request
        }
        match done {
            Ok(body) => answer(StatusCode::OK, "application/json", body),
            Err(refused) => refusal(&refused),
        }
    }

    async fn carry_out(&self, session: &mut ServerSession) -> Done {
        self.check_token(session)?;
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        match path.strip_prefix("/pulls/") {
            Some(id) => self.pull(session, &method, id).await,
            None if method == Method::POST => self.probe(session).await,
            None => Err(Refused::Method("POST")),
        }
    }

    fn check_token(&self, session: &ServerSession) -> Result<(), Refused> {
        let token = self.token.as_ref().ok_or(Refused::NoToken)?;
        let given = bearer(session.get_header_bytes(header::AUTHORIZATION));
        match given {
            Some(given) if token.is(given) => Ok(()),
            _ => Err(Refused::WrongToken),
        }
    }

    async fn probe(&self, session: &mut ServerSession) -> Done {
        let order: ProbeOrder = read(session).await?;
        Ok(written(&self.probes.now(&order.nodes).await))
    }

    async fn pull(&self, session: &mut ServerSession, method: &Method, id: &str) -> Done {
        if !(1..=LONGEST_ID).contains(&id.len()) || id.contains('/') {
            return Err(Refused::Id);
        }
        let seen = match *method {
            Method::PUT => {
                let order: PullOrder = read(session).await?;
                Some(self.pulls.begin(id, &order)?)
            }
            Method::GET => self.pulls.seen(id),
            Method::DELETE => self.pulls.end(id).await,
            _ => return Err(Refused::Method("PUT, GET, DELETE")),
        };
        seen.map(|seen| written(&seen)).ok_or(Refused::UnknownPull)
    }
}

/// What follows `Bearer`, in any case of it.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(rest.trim_ascii())
}

/// Reads an order.
async fn read<T: DeserializeOwned>(session: &mut ServerSession) -> Result<T, Refused> {
    let body = tokio::time::timeout(PATIENCE, body(session)).await;
    let body = body.map_err(|_| Refused::Late)??;
    serde_json::from_slice(&body).map_err(|error| Refused::Junk(error.to_string()))
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, Refused> {
    let mut body = Vec::new();
    while let Some(piece) = session
        .read_request_body()
        .await
        .map_err(|_| Refused::Broken)?
    {
        if body.len() + piece.len() > LONGEST {
            return Err(Refused::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers are texts, numbers and maps by text")
}

fn refusal(refused: &Refused) -> Response<Vec<u8>> {
    let body = json!({ "error": refused.to_string() }).to_string();
    let mut response = answer(refused.status(), "application/json", body.into_bytes());
    if let Some((name, value)) = refused.header() {
        let value = http::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_all_of_it() {
        let token = Token::of(&Secret::new("0123456789abcdef"));
        assert!(token.is(b"0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789abcdeF",
        ] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_bearer_is_found_behind_its_scheme_in_any_case() {
        assert_eq!(bearer(b"Bearer x"), Some(&b"x"[..]));
        assert_eq!(bearer(b"bEARER  x "), Some(&b"x"[..]));
        for none in ["", "x", "Basic x", "Bearer"] {
            assert_eq!(bearer(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn only_their_own_paths_are_for_orders() {
        for path in ["/probe", "/pulls/1", "/pulls/", "/pulls/1/2"] {
            assert!(Orders::takes(path), "{path}");
        }
        for path in ["/", "/pulls", "/probes", "/probe/", "/metrics", "/readyz"] {
            assert!(!Orders::takes(path), "{path}");
        }
    }
}
