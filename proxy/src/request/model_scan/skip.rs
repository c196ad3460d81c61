//! Passing over long runs quickly: the base64 of an image, the bytes of a recording.

/// How many bytes are looked at in one go; the compiler makes a few vector instructions of it.
const BLOCK: usize = 64;
/// How many bytes one word holds.
const WORD: usize = 8;
const ONES: u64 = u64::from_ne_bytes([1; WORD]);
const HIGHS: u64 = ONES << 7;

/// How many bytes at the start are plain string content: no quote, no backslash, no control
/// character (Go's `stateInString`).
pub(crate) fn plain(text: &[u8]) -> usize {
    // Most strings, and most runs between two escapes, end within the first words.
    let mut at = 0;
    while at < BLOCK {
        let Some(word) = text[at..].first_chunk::<WORD>() else {
            return at + plain_slowly(&text[at..]);
        };
        if let Some(stop) = first_stop(*word) {
            return at + stop;
        }
        at += WORD;
    }
    while let Some(block) = text[at..].first_chunk::<BLOCK>() {
        // Zero for a byte that ends the run. No early exit inside of a block, and only operations
        // that each vector unit has: that is what lets it be vectorised.
        let least = block.iter().fold(u8::MAX, |least, &byte| {
            let quote = (byte ^ b'"').min(byte ^ b'\\');
            least.min(quote).min(byte.saturating_sub(b' ' - 1))
        });
        if least == 0 {
            break;
        }
        at += BLOCK;
    }
    while let Some(word) = text[at..].first_chunk::<WORD>() {
        if let Some(stop) = first_stop(*word) {
            return at + stop;
        }
        at += WORD;
    }
    at + plain_slowly(&text[at..])
}

/// How many bytes stand before the first `wanted`.
pub(super) fn before(text: &[u8], wanted: u8) -> usize {
    let mut at = 0;
    while let Some(block) = text[at..].first_chunk::<BLOCK>() {
        let least = block
            .iter()
            .fold(u8::MAX, |least, &byte| least.min(byte ^ wanted));
        if least == 0 {
            break;
        }
        at += BLOCK;
    }
    let rest = &text[at..];
    at + rest
        .iter()
        .position(|&byte| byte == wanted)
        .unwrap_or(rest.len())
}

/// How many ASCII digits stand at the start.
pub(super) fn digits(text: &[u8]) -> usize {
    text.iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len())
}

/// The first byte of a word that ends a run. Each test sets the high bit of the bytes it is after;
/// a carry can spoil only bytes behind a true one ("Bit Twiddling Hacks", `haszero`, `hasless`).
fn first_stop(word: [u8; WORD]) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
    let stops = (quote | backslash | control) & HIGHS;
    (stops != 0).then(|| stops.trailing_zeros() as usize / 8)
}

fn plain_slowly(text: &[u8]) -> usize {
    text.iter()
        .position(|&byte| matches!(byte, b'"' | b'\\' | ..b' '))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_at_each_place_ends_a_run_or_not() {
        for length in [0, 1, 7, 8, 9, 63, 64, 65, 130, 200] {
            for filler in [b'A', b' ', 0x7f, 0x80, 0xff, b'!', b'#', b'[', b']'] {
                let mut text = vec![filler; length];
                assert_eq!(plain(&text), length);
                for at in 0..length {
                    for byte in [0, 1, 0x1f, b' ', b'"', b'\\', 0x80, 0x9f, 0xa2, 0xdc, 0xff] {
                        text[at] = byte;
                        let stops = byte < b' ' || byte == b'"' || byte == b'\\';
                        assert_eq!(plain(&text), if stops { at } else { length });
                        assert_eq!(
                            before(&text, byte),
                            text.iter().position(|&b| b == byte).unwrap()
                        );
                    }
                    text[at] = filler;
                }
            }
        }
    }
}
