//! Request ids: the client's own where it sent a usable one, else a new one.

use crate::dice::Dice;

/// Longest id taken over from a client, bytes.
const LONGEST: usize = 128;

/// The id of a request; `sent` is the client's `x-request-id`.
pub(crate) fn request_id(sent: Option<&[u8]>, dice: &Dice) -> String {
    match sent.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        Some(text) if is_usable(text) => text.to_owned(),
        _ => hex([dice.number(), dice.number()]),
    }
}

/// 32 digits; without the formatting machinery, because every request gets one.
fn hex(numbers: [u64; 2]) -> String {
    let mut text = String::with_capacity(32);
    for byte in numbers.into_iter().flat_map(u64::to_be_bytes) {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

fn is_usable(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usable_id_is_kept_and_others_are_replaced() {
        let dice = Dice::new(1);
        assert_eq!(request_id(Some(b"abc-1"), &dice), "abc-1");
        let made = request_id(Some(b"a\"b c"), &dice);
        assert_eq!(made.len(), 32);
        assert_ne!(made, request_id(None, &dice));
    }
}
