//! Forms in `multipart/form-data`, as far as transcriptions need them.

use super::Request;

/// The parts of a form.
#[derive(Debug, Default)]
pub(super) struct Form {
    parts: Vec<(String, Vec<u8>)>,
}

impl Form {
    /// Reads the parts; none when the body is no form.
    pub(super) fn read(request: &Request<'_>) -> Self {
        let kind = request.head.get("content-type").unwrap_or_default();
        let Some((_, boundary)) = kind.split_once("boundary=") else {
            return Self::default();
        };
        let boundary = boundary
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .trim_matches('"');
        let mark = format!("--{boundary}");
        let mut parts = Vec::new();
        for piece in split(&request.body, mark.as_bytes()).skip(1) {
            let piece = piece.strip_prefix(b"\r\n").unwrap_or(piece);
            let Some(at) = find(piece, b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&piece[..at]).into_owned();
            let body = piece[at + 4..]
                .strip_suffix(b"\r\n")
                .unwrap_or(&piece[at + 4..]);
            if let Some((_, rest)) = head.split_once("name=\"") {
                let name = rest.split('"').next().unwrap_or_default();
                parts.push((name.to_owned(), body.to_vec()));
            }
        }
        Self { parts }
    }

    /// The first part of a name.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.parts
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, b)| b.as_slice())
    }

    /// The same as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.bytes(name)
            .map(|b| String::from_utf8_lossy(b).into_owned())
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|w| w == needle)
}

fn split<'a>(mut bytes: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        if let Some(at) = find(bytes, mark) {
            let piece = &bytes[..at];
            bytes = &bytes[at + mark.len()..];
            return Some(piece);
        }
        done = true;
        Some(bytes)
    })
}
