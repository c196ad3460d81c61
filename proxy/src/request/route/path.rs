//! How a path is spelled: decoded, made clean and written again as Go's router does it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The clean form of a path with `//`, `.` or `..` in it, as Go's `path.Clean` makes it; a slash
/// at the end stays. `None` where it is clean. Bytes: a path need not be UTF-8 to climb.
pub(crate) fn cleaned(path: &[u8]) -> Option<Vec<u8>> {
    let parts = || path.split(|byte| *byte == b'/');
    let dirty = parts().any(|part| part == b"." || part == b"..");
    if !dirty && !path.windows(2).any(|pair| pair == b"//") {
        return None;
    }
    let mut kept = Vec::new();
    for part in parts() {
        match part {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let mut clean = [b"/", kept.join(&b'/').as_slice()].concat();
    if path.ends_with(b"/") && clean.len() > 1 {
        clean.push(b'/');
    }
    Some(clean)
}

/// Whether nobody between here and the node can read another path in this one, by unescaping it
/// once more, by taking `\\` for a slash or `;` for the end of a segment. What a node may come to
/// offer is spelt so.
pub(crate) fn is_plain(path: &str) -> bool {
    path.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~:@".contains(&byte))
}

/// Percent-decoded; what is no valid escape or UTF-8 stays as it is.
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    match unescaped(text) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// Percent-decoded; what is no valid escape stays as it is.
pub(crate) fn unescaped(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten();
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// A path as Go writes it into `Location`.
pub(crate) fn encoded(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // a String takes all that is written
        }
    }
    out
}
