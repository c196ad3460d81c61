//! Text within a URL.

use std::fmt::Write as _;

/// A text for a path, a query or a password of a URL: all but the unreserved characters of RFC 3986, section
/// 2.3, as `%XX`.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // a String takes all that is written
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_url_is_escaped_and_nothing_else() {
        assert_eq!(escaped("a-B_9.~"), "a-B_9.~");
        assert_eq!(
            escaped("p@ss/w:rd?&#% \u{e9}"),
            "p%40ss%2Fw%3Ard%3F%26%23%25%20%C3%A9"
        );
    }
}
