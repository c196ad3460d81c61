//! Refresh tokens: a login's longer half. Each is good for one exchange; one that comes a second
//! time was stolen from its owner or by its owner's thief, so the whole family ends (RFC 9700 §4.14).
//!
//! The store exchanges them: it marks a token used only where it is not, in one statement, so that of two
//! who present it at once the second is a replay. No exchange goes past [`FAMILY_LIFE`].

use std::time::Duration;

use aivonx_shared::fleet_doc::Secret;

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

/// From a login to the next one, however often its tokens are exchanged meanwhile.
pub const FAMILY_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The name of a new family: what comes of one login.
pub fn family(random: [u8; 16]) -> String {
    base64url(&random)
}

#[cfg(test)]
mod tests {
    use super::*;

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
