//! Writing JSON as Go's encoder does: `<`, `>`, `&`, U+2028 and U+2029 are escaped.

use serde_json::Value;

/// A value, compact, in the order its keys have.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    push(&mut out, value);
    out
}

fn push(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Number(n) => push_number(out, n),
        Value::String(s) => push_str(out, s),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push(out, item);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (i, (key, item)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_str(out, key);
                out.push(b':');
                push(out, item);
            }
            out.push(b'}');
        }
    }
}

fn push_number(out: &mut Vec<u8>, n: &serde_json::Number) {
    match n.as_f64() {
        Some(f) if n.is_f64() => push_f64(out, f),
        _ => out.extend_from_slice(n.to_string().as_bytes()),
    }
}

/// The shortest text of a number, with an exponent where Go uses one.
pub(crate) fn push_f64(out: &mut Vec<u8>, f: f64) {
    use std::io::Write as _;

    let size = f.abs();
    let _ = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        write!(out, "{}", go_exponent(&format!("{f:e}")))
    } else {
        write!(out, "{f}")
    };
}

/// [`push_f64`] for the single precision of embeddings.
pub(crate) fn push_f32(out: &mut Vec<u8>, f: f32) {
    use std::io::Write as _;

    let size = f.abs();
    let _ = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        write!(out, "{}", go_exponent(&format!("{f:e}")))
    } else {
        write!(out, "{f}")
    };
}

/// Rust writes `1e21`, Go `1e+21`; both `1e-7`.
fn go_exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
        _ => text.to_owned(),
    }
}

/// A string with its quotes.
pub(crate) fn push_str(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    push_escaped(out, s);
    out.push(b'"');
}

/// A string without quotes.
pub(crate) fn push_escaped(out: &mut Vec<u8>, s: &str) {
    use std::io::Write as _;

    for c in s.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// A string with quotes and escapes, as text.
pub(crate) fn quote(s: &str) -> String {
    let mut out = Vec::with_capacity(s.len() + 2);
    push_str(&mut out, s);
    String::from_utf8(out).unwrap_or_default()
}

/// A string as Go's `%q` shows it in an error text.
pub(crate) fn go_quote(s: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
