//! Forged requests: a browser adds the console's cookie to what any page makes it send, so whatever
//! changes something must show a token that only the console's own pages know, and come from them.
//! Only for requests with a cookie; a bearer token is never added by a browser itself.
//!
//! The token is an HMAC under the session's id: bound to the session, nothing to store, and it gives
//! the id away to nobody. It is the same for the whole session, so pages that hold it must not be
//! compressed together with what a stranger wrote (BREACH).

use aivonx_shared::fleet_doc::Secret;
use http::Method;
use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::origin::Source;
use super::random::base64url;
use super::session::SessionId;

/// Header in which scripts send the token.
pub const HEADER: &str = "x-csrf-token";
/// The same, as the predecessor's callers spell it (`X-CSRFToken`).
pub const DJANGO_HEADER: &str = "x-csrftoken";
/// Field in which forms send it.
pub const FIELD: &str = "csrf_token";
/// The same, as the predecessor's forms spell it.
pub const DJANGO_FIELD: &str = "csrfmiddlewaretoken";
/// Cookie from which scripts may take it.
pub const COOKIE: &str = "csrftoken";

/// Keeps these HMACs apart from any other that might be made of a session's id.
const CONTEXT: &[u8] = b"aivonx csrf v1";

/// Why a request is taken for a forged one: 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrfError {
    /// Another site's page sent it.
    #[error("the request comes from another site")]
    OtherSite,
    /// Neither header nor field.
    #[error("the CSRF token is missing")]
    Missing,
    /// The token of another session, or of none.
    #[error("the CSRF token is wrong")]
    Wrong,
}

/// The token of a session, for its pages.
pub fn token(session: &SessionId) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, session.reveal().as_bytes());
    base64url(hmac::sign(&key, CONTEXT).as_ref())
}

/// Whether a request of this method may change something (RFC 9110 §9.2.1).
pub fn is_unsafe(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// Judges a request that was made with a session's cookie: where it comes from, and the token that
/// it brought in a header or a field.
pub fn judge(
    method: &Method,
    session: &SessionId,
    source: Source,
    given: Option<&Secret>,
) -> Result<(), CsrfError> {
    if !is_unsafe(method) {
        return Ok(());
    }
    // a client that says nothing, as scripts with a cookie do, is left to the token
    if source == Source::Other {
        return Err(CsrfError::OtherSite);
    }
    let given = given.ok_or(CsrfError::Missing)?.reveal();
    let is_right = token(session).as_bytes().ct_eq(given.as_bytes());
    if is_right.into() {
        Ok(())
    } else {
        Err(CsrfError::Wrong)
    }
}

/// Judges a form that has no session yet: the login. It must come from our own page; were it let
/// through, somebody could be logged in as another without knowing (login CSRF). A client that sends
/// neither `Origin` nor `Referer` is no browser of these days.
pub fn judge_login(source: Source) -> Result<(), CsrfError> {
    match source {
        Source::Same | Source::Unknown => Ok(()),
        Source::Other => Err(CsrfError::OtherSite),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(byte: u8) -> SessionId {
        SessionId::new([byte; 32])
    }

    fn judged(method: &Method, source: Source, given: Option<&str>) -> Result<(), CsrfError> {
        let given = given.map(Secret::new);
        judge(method, &session(1), source, given.as_ref())
    }

    #[test]
    fn reading_needs_no_token() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            assert_eq!(judged(&method, Source::Other, None), Ok(()), "{method}");
        }
    }

    #[test]
    fn changing_needs_the_sessions_own_token() {
        let right = token(&session(1));
        let methods = [
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::CONNECT,
            Method::from_bytes(b"get").unwrap(),
        ];
        for method in methods {
            let of = |given| judged(&method, Source::Same, given);
            assert_eq!(of(Some(&right)), Ok(()), "{method}");
            assert_eq!(of(None), Err(CsrfError::Missing), "{method}");
            for wrong in ["", &right[1..], &token(&session(2)), &format!("{right}A")] {
                assert_eq!(of(Some(wrong)), Err(CsrfError::Wrong), "{method} {wrong}");
            }
        }
    }

    #[test]
    fn another_site_is_refused_even_with_the_token() {
        let right = token(&session(1));
        let other = judged(&Method::POST, Source::Other, Some(&right));
        assert_eq!(other, Err(CsrfError::OtherSite));
        let silent = judged(&Method::POST, Source::Unknown, Some(&right));
        assert_eq!(silent, Ok(()));
    }

    #[test]
    fn a_token_does_not_give_its_session_away() {
        let id = session(1);
        assert!(!token(&id).contains(id.reveal()));
        assert_eq!(token(&id), token(&id));
        assert_ne!(token(&id), id.digest().hex());
    }

    #[test]
    fn a_login_form_of_another_site_is_refused() {
        assert_eq!(judge_login(Source::Same), Ok(()));
        assert_eq!(judge_login(Source::Unknown), Ok(()));
        assert_eq!(judge_login(Source::Other), Err(CsrfError::OtherSite));
    }
}
