//! Randomness from the operating system, and how random bytes are written. Whoever makes a secret
//! is handed its bytes, so that tests know them; the callers in `api` and `app` take them from here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Characters of 32 bytes in base64url, without padding.
pub(super) const BASE64URL_LEN: usize = 43;

/// `N` bytes that nobody can guess.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the kernel's generator does not fail once the machine is up");
    bytes
}

/// Bytes as text that needs no escaping in URLs, headers and cookies.
pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether a text is what [`base64url`] makes of 32 bytes. Whoever holds one is not known yet.
pub(super) fn is_base64url_of_32(text: &str) -> bool {
    text.len() == BASE64URL_LEN && URL_SAFE_NO_PAD.decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ_each_time() {
        assert_ne!(bytes::<32>(), bytes::<32>());
    }

    #[test]
    fn only_32_bytes_in_base64url_have_the_shape() {
        assert!(is_base64url_of_32(&base64url(&[255; 32])));
        assert!(!is_base64url_of_32(&base64url(&[255; 31])));
        assert!(!is_base64url_of_32(&"+".repeat(43)));
        assert!(!is_base64url_of_32(&"é".repeat(21)));
    }
}
