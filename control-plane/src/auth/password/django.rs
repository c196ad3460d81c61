//! Passwords as Django hashed them for the predecessor: `pbkdf2_sha256$ITERATIONS$SALT$BASE64`.
//! They are verified, so that nobody needs a new password, and never made.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};

/// Fewer would be no protection worth keeping, more would let a row of the database hold a thread
/// for a minute. Django 3.0 had 180 000, 5.2 has 1 000 000.
const ITERATIONS: RangeInclusive<u32> = 100_000..=10_000_000;
const LONGEST_SALT: usize = 128;
const HASH_LEN: usize = 32;

/// A hash that can be verified.
pub(super) struct DjangoHash<'a> {
    iterations: NonZeroU32,
    salt: &'a str,
    hash: [u8; HASH_LEN],
}

impl<'a> DjangoHash<'a> {
    /// Reads a hash; `None` for whatever is no such hash, and for iterations out of bounds.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix("pbkdf2_sha256$")?.split('$');
        let (iterations, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || salt.is_empty() || salt.len() > LONGEST_SALT {
            return None;
        }
        if iterations.is_empty() || !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return None; // `parse` would take a sign
        }
        let iterations = iterations.parse().ok()?;
        if !ITERATIONS.contains(&iterations) {
            return None;
        }
        Some(Self {
            iterations: NonZeroU32::new(iterations)?,
            salt,
            hash: STANDARD.decode(hash).ok()?.try_into().ok()?,
        })
    }

    /// Whether it is this password's. Takes as long as its iterations.
    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let salt = self.salt.as_bytes();
        let Self {
            iterations, hash, ..
        } = self;
        pbkdf2::verify(PBKDF2_HMAC_SHA256, *iterations, salt, password, hash).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the predecessor's own library writes, computed apart from this code.
    const HASH: &str =
        "pbkdf2_sha256$1000000$JTqfEyCRY0lMuXvHDo9zKb$MLJPe52S4enVgET+efwpQTM6Els4nn2hpOremgmTU/w=";

    #[test]
    fn the_predecessors_hash_matches_its_password_alone() {
        let hash = DjangoHash::read(HASH).unwrap();
        assert!(hash.matches(b"changeme"));
        assert!(!hash.matches(b"changeme "));
        assert!(!hash.matches(b""));
    }

    #[test]
    fn what_is_no_such_hash_or_out_of_bounds_is_not_read() {
        let end = "$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert!(DjangoHash::read(&format!("pbkdf2_sha256$100000{end}")).is_some());
        for iterations in [
            "0",
            "1",
            "99999",
            "10000001",
            "4294967296",
            "",
            "+200000",
            "-1",
        ] {
            let text = format!("pbkdf2_sha256${iterations}{end}");
            assert!(DjangoHash::read(&text).is_none(), "{text}");
        }
        let other = [
            "",
            "!unusable",
            "pbkdf2_sha1$200000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "pbkdf2_sha256$200000$$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "pbkdf2_sha256$200000$salt$AAAA",
            "pbkdf2_sha256$200000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=$",
            "pbkdf2_sha256$200000$salt",
        ];
        for text in other {
            assert!(DjangoHash::read(text).is_none(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(pbkdf2_sha256\\$)?[0-9$a-zA-Z=+/é]{0,80}") {
            let _ = DjangoHash::read(&text);
        }
    }
}
