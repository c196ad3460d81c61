//! Sessions of the console: an id in a cookie (`cookie`), its digest in the store, and two clocks.
//! Handlers in `api` make, find and end them; what guards their forms is in `csrf`.

mod cookie;

use std::time::Duration;

use aivonx_shared::fleet_doc::Secret;
use chrono::{DateTime, Utc};

use super::digest::Digest;
use super::random::{base64url, is_base64url_of_32};

pub use self::cookie::CookieJar;

/// How seldom the store hears that a session is in use.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// The id of a session. The text is what the browser holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionId(Secret);

impl SessionId {
    /// A new session's id, of these random bytes. A login always makes a new one, so that nobody
    /// can prepare a session for somebody else.
    pub fn new(random: [u8; 32]) -> Self {
        Self(Secret::new(base64url(&random)))
    }

    /// An id as a cookie holds it; `None` where a text is none.
    pub fn read(text: &str) -> Option<Self> {
        is_base64url_of_32(text).then(|| Self(Secret::new(text)))
    }

    /// The text, for the cookie alone.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// For the store.
    pub fn digest(&self) -> Digest {
        Digest::of(self.reveal())
    }
}

/// How long sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLife {
    /// Without a request.
    pub idle: Duration,
    /// From the login, whatever happens.
    pub absolute: Duration,
}

impl Default for SessionLife {
    /// An hour; a working day (OWASP, Session Management Cheat Sheet).
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60 * 60),
            absolute: Duration::from_secs(12 * 60 * 60),
        }
    }
}

/// A session as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSession {
    /// When its user logged in.
    pub created_at: DateTime<Utc>,
    /// When it was last in use, to the minute.
    pub last_seen_at: DateTime<Utc>,
}

/// What becomes of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// It is good.
    Live {
        /// Whether the store should write that it was seen now.
        touch: bool,
    },
    /// Nobody used it for too long: to be removed.
    Idle,
    /// Its login is too long ago: to be removed.
    TooOld,
}

impl SessionLife {
    /// Judges a session. A clock that went back makes no session older than it was.
    pub fn judge(&self, session: &StoredSession, now: DateTime<Utc>) -> SessionState {
        let since = |then: DateTime<Utc>| (now - then).to_std().unwrap_or_default();
        let unseen = since(session.last_seen_at);
        if since(session.created_at) >= self.absolute {
            return SessionState::TooOld;
        }
        if unseen >= self.idle {
            return SessionState::Idle;
        }
        let touch = unseen >= TOUCH_EVERY.min(self.idle / 2);
        SessionState::Live { touch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn judged(created: i64, seen: i64, now: i64) -> SessionState {
        let session = StoredSession {
            created_at: at(created),
            last_seen_at: at(seen),
        };
        SessionLife::default().judge(&session, at(now))
    }

    #[test]
    fn a_session_in_use_lives_until_its_login_is_too_old() {
        assert_eq!(judged(0, 0, 1), SessionState::Live { touch: false });
        assert_eq!(judged(0, 0, 60), SessionState::Live { touch: true });
        let seen = 12 * HOUR - 10;
        assert_eq!(
            judged(0, seen, 12 * HOUR - 1),
            SessionState::Live { touch: false }
        );
        assert_eq!(judged(0, seen, 12 * HOUR), SessionState::TooOld);
    }

    #[test]
    fn a_session_that_nobody_uses_ends() {
        let just = HOUR - 1;
        assert_eq!(judged(0, 0, just), SessionState::Live { touch: true });
        assert_eq!(judged(0, 0, HOUR), SessionState::Idle);
    }

    #[test]
    fn a_clock_that_went_back_ends_no_session() {
        assert_eq!(judged(0, 0, -HOUR), SessionState::Live { touch: false });
    }

    #[test]
    fn an_id_is_found_by_its_digest_and_does_not_show_itself() {
        let id = SessionId::new([7; 32]);
        assert_eq!(SessionId::read(id.reveal()), Some(id.clone()));
        assert_eq!(id.digest(), Digest::of(id.reveal()));
        assert!(!format!("{id:?}").contains(id.reveal()));
        assert_eq!(SessionId::read("short"), None);
        assert_eq!(SessionId::read(&format!("{}=", id.reveal())), None);
    }
}
