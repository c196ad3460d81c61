//! JSON strings as Go decodes them, and keys as it compares them.

/// Whether a key, as written between its quotes, names the field `name` (lower-case ASCII).
///
/// Go folds by Unicode's simple folding (`foldName` in `encoding/json`); besides the ASCII
/// capitals only `ſ` and the Kelvin sign fold to a letter of ASCII.
pub(crate) fn key_is(raw: &[u8], name: &str) -> bool {
    if raw.is_ascii() && !raw.contains(&b'\\') {
        return raw.eq_ignore_ascii_case(name.as_bytes());
    }
    unquote(raw).chars().map(fold).eq(name.chars())
}

/// Which of these fields a key names, as [`key_is`].
pub(super) fn which(raw: &[u8], names: &[&str]) -> Option<usize> {
    if raw.is_ascii() && !raw.contains(&b'\\') {
        let is = |name: &&str| raw.eq_ignore_ascii_case(name.as_bytes());
        return names.iter().position(is);
    }
    let key: String = unquote(raw).chars().map(fold).collect();
    names.iter().position(|name| key == *name)
}

fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// Decodes what stood between two quotes and was found valid (Go's `unquote`): a lone surrogate
/// becomes U+FFFD, and so does each byte that is not UTF-8.
pub(crate) fn unquote(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        push_lossy(&mut out, &rest[..at]);
        let (letter, used) = escape(&rest[at..]);
        out.push(letter);
        rest = &rest[at + used..];
    }
    push_lossy(&mut out, rest);
    out
}

/// The character that the escape at the start of `rest` stands for, and how long it is. A low
/// surrogate is taken along only where it completes a pair.
fn escape(rest: &[u8]) -> (char, usize) {
    let letter = match rest.get(1) {
        Some(b'u') => {
            let unit = hex(rest);
            let next = hex(rest.get(6..).unwrap_or_default());
            let pair = char::decode_utf16([unit, next]).next();
            return match (char::from_u32(unit.into()), pair) {
                (Some(letter), _) => (letter, 6),
                (None, Some(Ok(letter))) => (letter, 12),
                (None, _) => (char::REPLACEMENT_CHARACTER, 6),
            };
        }
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(&other) => char::from(other),
        None => return (char::REPLACEMENT_CHARACTER, rest.len()),
    };
    (letter, 2)
}

/// The unit of a `\uXXXX` at the start of `text`, or 0.
fn hex(text: &[u8]) -> u16 {
    let digits = match text {
        [b'\\', b'u', digits @ ..] => digits.get(..4),
        _ => None,
    };
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

/// Bytes as text, each that is not UTF-8 as U+FFFD: what Go's encoder makes of such a string.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    push_lossy(&mut out, bytes);
    out
}

fn push_lossy(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for _ in chunk.invalid() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
