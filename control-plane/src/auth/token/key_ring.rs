//! The ring of keys that sign access tokens: the newest signs, those not retired verify.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{LEEWAY, hmac};

/// How long a new key waits before it signs: by then each control plane has read it.
pub const SPREAD: Duration = Duration::from_secs(60);

const LONGEST_KID: usize = 64;

/// A secret that signs and verifies.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    secret: [u8; 32],
    created_at: DateTime<Utc>,
    retired_at: Option<DateTime<Utc>>,
}

impl SigningKey {
    /// A key as the store keeps it, its secret unsealed. From `retired_at` on it verifies nothing.
    pub fn new(
        kid: impl Into<String>,
        secret: [u8; 32],
        created_at: DateTime<Utc>,
        retired_at: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            kid: kid.into(),
            secret,
            created_at,
            retired_at,
        }
    }

    /// The name of the key in the header of tokens.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The secret itself: for the store, which seals it.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    fn is_good(&self, now: DateTime<Utc>) -> bool {
        self.retired_at.is_none_or(|at| now < at)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("created_at", &self.created_at)
            .field("retired_at", &self.retired_at)
            .finish_non_exhaustive()
    }
}

/// Why keys make no ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// There is none, or all have a time to retire: nothing could sign.
    #[error("no key that stays")]
    Empty,
    /// Two keys have one name.
    #[error("two keys are called {0:?}")]
    Twice(String),
    /// A name is empty or too long.
    #[error("a key's name must have 1 to 64 characters")]
    Name,
}

/// All keys that are known. Replaced whole when the store has others.
#[derive(Debug, Clone)]
pub struct KeyRing {
    /// The newest first; one at least has no time to retire.
    keys: Vec<SigningKey>,
}

impl KeyRing {
    /// A ring of these keys, in any order.
    pub fn new(mut keys: Vec<SigningKey>) -> Result<Self, KeyRingError> {
        hmac::install();
        keys.sort_by(|a, b| (b.created_at, &b.kid).cmp(&(a.created_at, &a.kid)));
        if keys.iter().all(|key| key.retired_at.is_some()) {
            return Err(KeyRingError::Empty);
        }
        for (at, key) in keys.iter().enumerate() {
            if key.kid.is_empty() || key.kid.len() > LONGEST_KID {
                return Err(KeyRingError::Name);
            }
            if keys[..at].iter().any(|other| other.kid == key.kid) {
                return Err(KeyRingError::Twice(key.kid.clone()));
            }
        }
        Ok(Self { keys })
    }

    /// Whether it is time for another key.
    pub fn is_due(&self, every: Duration, now: DateTime<Utc>) -> bool {
        let newest = self.keys.first().map(|key| key.created_at);
        newest.is_none_or(|at| now >= at + every)
    }

    /// When the other keys retire, if a new one is made now: the last token that an old one signs is
    /// then over.
    pub fn retirement(lifetime: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
        now + SPREAD + lifetime + LEEWAY
    }

    /// The newest key that everybody has read; the oldest that stays, where none has had the time.
    pub(super) fn signing_key(&self, now: DateTime<Utc>) -> &SigningKey {
        let good = || self.keys.iter().filter(|key| key.is_good(now));
        good()
            .find(|key| now >= key.created_at + SPREAD)
            .or_else(|| good().next_back())
            .expect("one key has no time to retire")
    }

    pub(super) fn verifying_key(&self, kid: &str, now: DateTime<Utc>) -> Option<&SigningKey> {
        let mut keys = self.keys.iter();
        keys.find(|key| key.kid == kid && key.is_good(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn key(kid: &str, created: i64, retired: Option<i64>) -> SigningKey {
        SigningKey::new(kid, [7; 32], at(created), retired.map(at))
    }

    fn signs(ring: &KeyRing, now: i64) -> &str {
        ring.signing_key(at(now)).kid()
    }

    #[test]
    fn a_new_key_signs_once_all_had_the_time_to_read_it() {
        let ring = KeyRing::new(vec![key("old", 0, Some(2000)), key("new", 1000, None)]).unwrap();
        assert_eq!(signs(&ring, 1059), "old");
        assert_eq!(signs(&ring, 1060), "new");
    }

    #[test]
    fn the_first_key_of_all_signs_at_once() {
        let ring = KeyRing::new(vec![key("first", 0, None)]).unwrap();
        assert_eq!(signs(&ring, 0), "first");
        assert_eq!(signs(&ring, -3600), "first", "the clock went back");
    }

    #[test]
    fn a_retired_key_neither_signs_nor_verifies() {
        let ring = KeyRing::new(vec![key("old", 0, Some(50)), key("new", 20, None)]).unwrap();
        assert!(ring.verifying_key("old", at(49)).is_some());
        assert!(ring.verifying_key("old", at(50)).is_none());
        assert_eq!(signs(&ring, 49), "old");
        assert_eq!(signs(&ring, 50), "new");
    }

    #[test]
    fn the_last_token_of_an_old_key_is_over_when_it_retires() {
        let lifetime = Duration::from_secs(900);
        let retires = KeyRing::retirement(lifetime, at(1000));
        let ring = KeyRing::new(vec![
            SigningKey::new("old", [7; 32], at(0), Some(retires)),
            key("new", 1000, None),
        ]);
        let ring = ring.unwrap();
        let last = (1000..2000).rfind(|now| signs(&ring, *now) == "old");
        assert!(at(last.unwrap()) + lifetime < retires);
    }

    #[test]
    fn a_ring_needs_a_key_that_stays_and_names_that_differ() {
        let new = |keys| KeyRing::new(keys).unwrap_err();
        assert_eq!(new(vec![]), KeyRingError::Empty);
        assert_eq!(new(vec![key("a", 0, Some(9))]), KeyRingError::Empty);
        let twice = vec![key("a", 0, None), key("a", 1, None)];
        assert_eq!(new(twice), KeyRingError::Twice("a".into()));
        assert_eq!(new(vec![key("", 0, None)]), KeyRingError::Name);
    }

    #[test]
    fn a_key_is_due_by_its_age() {
        let ring = KeyRing::new(vec![key("a", 0, None)]).unwrap();
        let day = Duration::from_secs(86_400);
        assert!(!ring.is_due(day, at(86_399)));
        assert!(ring.is_due(day, at(86_400)));
    }

    #[test]
    fn a_secret_is_never_printed() {
        let ring = KeyRing::new(vec![key("a", 0, None)]).unwrap();
        assert!(!format!("{ring:?}").contains("7, 7"));
    }
}
