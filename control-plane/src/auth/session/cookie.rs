//! The cookies of the console: how they are set, cleared and found again.

use std::time::Duration;

use super::SessionId;
use crate::auth::csrf;

const SESSION: &str = "aivonx_session";
/// A browser takes a `__Host-` cookie only over TLS, for `/`, and from this very host (RFC 6265bis
/// §4.1.3.2), so neither a neighbouring subdomain nor plain HTTP can put one in its place.
const SECURE_SESSION: &str = "__Host-aivonx_session";

/// How cookies are written for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieJar {
    is_tls: bool,
}

impl CookieJar {
    /// Whether the client came over TLS, as the front door says.
    pub fn new(is_tls: bool) -> Self {
        Self { is_tls }
    }

    /// The name of the session's cookie.
    pub fn session_name(self) -> &'static str {
        if self.is_tls { SECURE_SESSION } else { SESSION }
    }

    /// `Set-Cookie` after a login.
    pub fn set_session(self, id: &SessionId, lasts: Duration) -> String {
        self.set(self.session_name(), id.reveal(), lasts, "; HttpOnly")
    }

    /// `Set-Cookie` that scripts may read, for callers that were written for the predecessor: they
    /// send what it holds in `X-CSRFToken`.
    pub fn set_csrf(self, id: &SessionId, lasts: Duration) -> String {
        self.set(csrf::COOKIE, &csrf::token(id), lasts, "")
    }

    /// `Set-Cookie`s after a logout.
    pub fn clear(self) -> [String; 2] {
        let gone = Duration::ZERO;
        [
            self.set(self.session_name(), "", gone, "; HttpOnly"),
            self.set(csrf::COOKIE, "", gone, ""),
        ]
    }

    /// The session in the values of `Cookie` headers. Of two different ones neither is taken: one
    /// was put there by somebody else.
    pub fn session<'a>(self, headers: impl IntoIterator<Item = &'a str>) -> Option<SessionId> {
        let pairs = headers.into_iter().flat_map(|header| header.split(';'));
        let mut values = pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.session_name())
            .map(|(_, value)| value);
        let first = values.next()?;
        if values.any(|other| other != first) {
            return None;
        }
        SessionId::read(first)
    }

    /// `SameSite=Lax`: a link from a mail finds its reader logged in, a form on another site does
    /// not; what changes something asks for a CSRF token besides.
    fn set(self, name: &str, value: &str, lasts: Duration, http_only: &str) -> String {
        let secure = if self.is_tls { "; Secure" } else { "" };
        let seconds = lasts.as_secs();
        format!("{name}={value}; Path=/; Max-Age={seconds}; SameSite=Lax{secure}{http_only}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(byte: u8) -> SessionId {
        SessionId::new([byte; 32])
    }

    #[test]
    fn a_session_cookie_is_kept_from_scripts_and_other_sites() {
        let id = id(7);
        let text = id.reveal();
        assert_eq!(
            CookieJar::new(false).set_session(&id, HOUR),
            format!("aivonx_session={text}; Path=/; Max-Age=3600; SameSite=Lax; HttpOnly")
        );
        assert_eq!(
            CookieJar::new(true).set_session(&id, HOUR),
            format!(
                "__Host-aivonx_session={text}; Path=/; Max-Age=3600; SameSite=Lax; Secure; HttpOnly"
            )
        );
    }

    #[test]
    fn the_csrf_cookie_is_for_scripts_and_holds_no_session() {
        let set = CookieJar::new(true).set_csrf(&id(7), HOUR);
        assert!(set.starts_with("csrftoken=") && set.ends_with("; Secure"));
        assert!(!set.contains(id(7).reveal()));
    }

    #[test]
    fn a_logout_takes_both_cookies_away() {
        let [session, csrf] = CookieJar::new(true).clear();
        assert!(session.starts_with("__Host-aivonx_session=; Path=/; Max-Age=0;"));
        assert!(csrf.starts_with("csrftoken=; Path=/; Max-Age=0;"));
    }

    #[test]
    fn a_session_is_found_among_other_cookies() {
        let text = id(7).reveal().to_owned();
        let plain = CookieJar::new(false);
        let found = |header: &str| plain.session([header]);
        assert_eq!(found(&format!("aivonx_session={text}")), Some(id(7)));
        let among = format!("a=b;c; aivonx_session={text} ;=; other=aivonx_session=x");
        assert_eq!(found(&among), Some(id(7)));
        assert_eq!(found("aivonx_session=short"), None);
        assert_eq!(found(&format!("xaivonx_session={text}")), None);
        assert_eq!(found(""), None);
        assert_eq!(plain.session([]), None);
    }

    #[test]
    fn over_tls_only_the_cookie_that_needs_tls_is_believed() {
        let text = id(7).reveal().to_owned();
        let plain = format!("aivonx_session={text}");
        let secure = format!("__Host-aivonx_session={text}");
        assert_eq!(CookieJar::new(true).session([plain.as_str()]), None);
        let found = CookieJar::new(true).session([plain.as_str(), secure.as_str()]);
        assert_eq!(found, Some(id(7)));
    }

    #[test]
    fn of_two_sessions_neither_is_taken() {
        let pair = |byte| format!("aivonx_session={}", id(byte).reveal());
        let jar = CookieJar::new(false);
        let same = format!("{}; {}", pair(1), pair(1));
        assert_eq!(jar.session([same.as_str()]), Some(id(1)));
        assert_eq!(jar.session([pair(1).as_str(), pair(2).as_str()]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_cookies_make_looking_panic(header in "(aivonx_session=)?.{0,80}", is_tls: bool) {
            let _ = CookieJar::new(is_tls).session([header.as_str()]);
        }
    }
}
