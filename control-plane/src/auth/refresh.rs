//! Refresh tokens: a login's longer half. Each is good for one exchange; one that comes a second
//! time was stolen from its owner or by its owner's thief, so the whole family ends (RFC 9700 §4.14).
//!
//! [`decide`] says what is to be done, the store does it. Two requests with one token may race, so
//! the store marks it used only where `used_at` is empty, in the same transaction; if that changed no
//! row, the token is a [`Rotation::Replay`].

use std::time::Duration;

use aivonx_shared::fleet_doc::Secret;
use chrono::{DateTime, Utc};

use super::digest::Digest;
use super::random::{base64url, is_base64url_of_32};

/// What every refresh token begins with, for people and for scanners of leaked secrets.
pub const PREFIX: &str = "avr_";

/// A new refresh token.
#[derive(Debug, Clone)]
pub struct RefreshToken {
    /// For the client, once.
    pub secret: Secret,
    /// For the store.
    pub digest: Digest,
}

impl RefreshToken {
    /// The token of these random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        let text = format!("{PREFIX}{}", base64url(&random));
        Self {
            digest: Digest::of(&text),
            secret: Secret::new(text),
        }
    }

    /// What to look for in the store; `None` where a text is no refresh token.
    pub fn read(text: &str) -> Option<Digest> {
        let rest = text.strip_prefix(PREFIX)?;
        is_base64url_of_32(rest).then(|| Digest::of(text))
    }
}

/// The name of a new family: what comes of one login.
pub fn family(random: [u8; 16]) -> String {
    base64url(&random)
}

/// How long refresh tokens live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshLife {
    /// From one exchange to the next.
    pub each: Duration,
    /// From the login to the next login.
    pub family: Duration,
}

impl Default for RefreshLife {
    /// A day, as the predecessor's; thirty from the login.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            each: DAY,
            family: DAY * 30,
        }
    }
}

impl RefreshLife {
    /// When a token made now expires, in a family that began then.
    pub fn expires_at(&self, family_began_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        (now + self.each).min(family_began_at + self.family)
    }
}

/// A refresh token as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRefresh {
    /// From then on it is refused.
    pub expires_at: DateTime<Utc>,
    /// When its family's first token was made.
    pub family_began_at: DateTime<Utc>,
    /// When it was exchanged.
    pub used_at: Option<DateTime<Utc>>,
    /// When it, or its family, was ended: a logout, a changed password, a replay.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// What to do with a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Mark it used and give another of the family, which expires then.
    Rotate {
        /// Of the other.
        expires_at: DateTime<Utc>,
    },
    /// It was used before: revoke its family, write an audit row, answer 401.
    Replay,
    /// Its time, or its family's, is over: 401.
    Expired,
    /// There is none, or its family was ended already: 401, and nothing else to do.
    Unknown,
}

/// Judges the token that [`RefreshToken::read`] led to.
pub fn decide(stored: Option<&StoredRefresh>, life: &RefreshLife, now: DateTime<Utc>) -> Rotation {
    let Some(stored) = stored.filter(|stored| stored.revoked_at.is_none()) else {
        return Rotation::Unknown;
    };
    // before its age: an old one that comes again still tells of a theft, and its heirs may live
    if stored.used_at.is_some() {
        return Rotation::Replay;
    }
    let expires_at = life.expires_at(stored.family_began_at, now);
    if now >= stored.expires_at || now >= expires_at {
        return Rotation::Expired;
    }
    Rotation::Rotate { expires_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn fresh() -> StoredRefresh {
        StoredRefresh {
            expires_at: at(DAY),
            family_began_at: at(0),
            used_at: None,
            revoked_at: None,
        }
    }

    fn decided(stored: StoredRefresh, now: i64) -> Rotation {
        decide(Some(&stored), &RefreshLife::default(), at(now))
    }

    #[test]
    fn a_token_is_found_by_its_digest_and_does_not_show_itself() {
        let token = RefreshToken::new([7; 32]);
        let text = token.secret.reveal();
        assert!(text.starts_with("avr_") && text.len() == 47, "{text}");
        assert_eq!(RefreshToken::read(text), Some(token.digest));
        assert!(!format!("{token:?}").contains(&text[4..]));
        let other = RefreshToken::new([8; 32]);
        assert_ne!(token.digest, other.digest);
    }

    #[test]
    fn what_has_not_the_shape_is_no_token() {
        let text = RefreshToken::new([7; 32]).secret.reveal().to_owned();
        for other in [
            "",
            "avr_",
            &text[..46],
            &text[4..],
            &format!("{text}A"),
            &text.replace("avr_", "avp_"),
            &format!("{text} "),
        ] {
            assert_eq!(RefreshToken::read(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_fresh_token_gives_another_for_a_day() {
        let expires_at = at(1000 + DAY);
        assert_eq!(decided(fresh(), 1000), Rotation::Rotate { expires_at });
    }

    #[test]
    fn a_family_ends_thirty_days_after_its_login() {
        let late = StoredRefresh {
            expires_at: at(31 * DAY),
            ..fresh()
        };
        let expires_at = at(30 * DAY);
        let just = 30 * DAY - 1;
        assert_eq!(decided(late, just), Rotation::Rotate { expires_at });
        assert_eq!(decided(late, 30 * DAY), Rotation::Expired);
    }

    #[test]
    fn an_expired_token_gives_nothing() {
        assert_eq!(decided(fresh(), DAY), Rotation::Expired);
    }

    #[test]
    fn a_used_token_is_a_replay_however_old() {
        let used = StoredRefresh {
            used_at: Some(at(10)),
            ..fresh()
        };
        for now in [10, 11, DAY, 100 * DAY] {
            assert_eq!(decided(used, now), Rotation::Replay, "{now}");
        }
    }

    #[test]
    fn of_an_ended_family_nothing_is_known() {
        let ended = StoredRefresh {
            used_at: Some(at(10)),
            revoked_at: Some(at(20)),
            ..fresh()
        };
        assert_eq!(decided(ended, 30), Rotation::Unknown);
        let life = RefreshLife::default();
        assert_eq!(decide(None, &life, at(0)), Rotation::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(avr_)?.{0,60}") {
            let _ = RefreshToken::read(&text);
        }

        #[test]
        fn every_token_is_read_back(random: [u8; 32]) {
            let token = RefreshToken::new(random);
            proptest::prop_assert_eq!(RefreshToken::read(token.secret.reveal()), Some(token.digest));
        }
    }
}
