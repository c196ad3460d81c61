//! Keys that are made for machines: of the data plane (`avx_…`), and a user's personal tokens for
//! the REST API (`avp_…`). Each is shown once; the store keeps its digest and a hint.
//!
//! Prefix and letters make them easy to find for scanners of leaked secrets
//! (`av[xp]_[0-9A-Za-z]{43}`) and to mark with a double click.

use aivonx_shared::fleet_doc::Secret;

use super::digest::Digest;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits to base 62 that 256 bits need: 62^43 > 2^256 > 62^42.
const DIGITS: usize = 43;
const HINT: usize = 4;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Inference, at the data plane.
    DataPlane,
    /// The REST API, as its owner.
    Personal,
}

impl KeyKind {
    /// What its keys begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::DataPlane => "avx_",
            Self::Personal => "avp_",
        }
    }
}

/// A new key.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For its owner, once.
    pub secret: Secret,
    /// For the store.
    pub digest: Digest,
    /// Prefix and last characters, by which its owner tells it from others: `avx_…9fQz`.
    pub hint: String,
}

impl NewKey {
    /// The key of these random bytes.
    pub fn new(kind: KeyKind, random: [u8; 32]) -> Self {
        let digits = base62(random);
        let text = format!("{}{digits}", kind.prefix());
        Self {
            hint: format!("{}…{}", kind.prefix(), &digits[DIGITS - HINT..]),
            digest: Digest::of(&text),
            secret: Secret::new(text),
        }
    }
}

/// What kind of key a text is, and what to look for in the store; `None` where it is none of ours.
/// A key of the data plane that an operator made up is none either: there any text is a key.
pub fn read(text: &str) -> Option<(KeyKind, Digest)> {
    let kinds = [KeyKind::DataPlane, KeyKind::Personal];
    let kind = kinds
        .into_iter()
        .find(|kind| text.starts_with(kind.prefix()))?;
    let digits = &text.as_bytes()[kind.prefix().len()..];
    let is_whole = digits.len() == DIGITS && digits.iter().all(u8::is_ascii_alphanumeric);
    is_whole.then(|| (kind, Digest::of(text)))
}

/// A number of 256 bits to base 62, with leading zeros.
fn base62(mut number: [u8; 32]) -> String {
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 62) as u8; // below 256, for `rest` is below 62
            rest = value % 62;
        }
        *digit = ALPHABET[rest as usize];
    }
    digits.map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_number_is_written_to_base_62() {
        let mut number = [0; 32];
        assert_eq!(base62(number), "0".repeat(43));
        number[31] = 61;
        assert_eq!(base62(number), format!("{}z", "0".repeat(42)));
        (number[30], number[31]) = (0x0f, 0x04); // 3844 = 62²
        assert_eq!(base62(number), format!("{}100", "0".repeat(40)));
        // computed apart from this code
        assert_eq!(
            base62([255; 32]),
            "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"
        );
    }

    #[test]
    fn a_key_is_found_by_its_digest_and_known_by_its_kind() {
        for kind in [KeyKind::DataPlane, KeyKind::Personal] {
            let key = NewKey::new(kind, [7; 32]);
            assert_eq!(read(key.secret.reveal()), Some((kind, key.digest)));
            assert_eq!(key.secret.reveal().len(), 47);
        }
    }

    #[test]
    fn a_key_shows_no_more_than_a_hint() {
        let key = NewKey::new(KeyKind::DataPlane, [9; 32]);
        let text = key.secret.reveal();
        assert_eq!(key.hint, format!("avx_…{}", &text[43..]));
        let printed = format!("{key:?}");
        assert!(!printed.contains(&text[4..20]), "{printed}");
    }

    #[test]
    fn what_has_not_the_shape_is_no_key() {
        let text = NewKey::new(KeyKind::Personal, [7; 32]).secret;
        let text = text.reveal();
        for other in [
            "",
            "avp_",
            "avx_",
            &text[..46],
            &format!("{text}0"),
            &text.replace("avp_", "avr_"),
            &format!("{}-", &text[..46]),
            "Bearer avp_",
            "avp_éééééééééééééééééééééé",
        ] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(av[xpr]_)?.{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn keys_of_other_bytes_are_other_keys(numbers: [[u8; 32]; 4]) {
            let texts: HashSet<_> = numbers.iter().map(|number| base62(*number)).collect();
            let numbers: HashSet<_> = numbers.iter().collect();
            proptest::prop_assert_eq!(texts.len(), numbers.len());
        }
    }
}
