//! Reads a node's progress line by line, whatever the pieces it comes in.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::call::{Answer, Failure};
use super::progress::Line;

/// Longest line of a node that is read, bytes.
const LONGEST: usize = 64 << 10;

/// Hands every line to `said` until the answer ends; well only if it ends in `success`.
pub(super) async fn follow<F: Future<Output = ()>>(
    answer: &mut Answer,
    said: impl Fn(Line) -> F,
) -> Result<(), Failure> {
    let mut lines = Lines::default();
    let mut succeeded = false;
    while let Some(piece) = answer.piece().await? {
        lines.push(&piece)?;
        while let Some(line) = lines.next() {
            if let Some(line) = read(&line)? {
                succeeded |= line.status == "success";
                said(line).await;
            }
        }
    }
    if succeeded {
        Ok(())
    } else {
        Err(Failure::of("its answer ended before the work did"))
    }
}

/// What a line says; `None` where it is none of progress.
fn read(line: &[u8]) -> Result<Option<Line>, Failure> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
        return Ok(None);
    };
    let text = |key| fields.get(key).and_then(Value::as_str);
    let number = |key| fields.get(key).and_then(Value::as_u64).unwrap_or(0);
    if let Some(error) = text("error") {
        return Err(Failure {
            status: Some(500), // what Ollama answers where no progress is wanted
            text: error.to_owned(),
        });
    }
    Ok(text("status").map(|status| Line {
        status: status.to_owned(),
        digest: text("digest").unwrap_or_default().to_owned(),
        total: number("total"),
        completed: number("completed"),
    }))
}

/// Pieces of a stream, cut into lines.
#[derive(Default)]
struct Lines(BytesMut);

impl Lines {
    fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.0.extend_from_slice(piece);
        let from_last = self.0.iter().rev().take_while(|byte| **byte != b'\n');
        if self.0.len() > LONGEST && from_last.count() > LONGEST {
            return Err(Failure::of("a line of its answer is too long"));
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Bytes> {
        let end = memchr::memchr(b'\n', &self.0)?;
        Some(self.0.split_to(end + 1).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_from_any_pieces() {
        let text = b"{\"status\":\"a\"}\n{\"status\":\"b\"}\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in text.chunks(size) {
                lines.push(piece).unwrap();
                while let Some(line) = lines.next() {
                    seen.push(read(&line).unwrap().unwrap().status);
                }
            }
            assert_eq!(seen, ["a", "b"]);
        }
    }

    #[test]
    fn an_error_line_ends_it_in_the_nodes_words_and_noise_is_passed_over() {
        let failure = read(br#"{"error":"no space left on device"}"#).unwrap_err();
        assert_eq!(
            (failure.status, failure.text.as_str()),
            (Some(500), "no space left on device")
        );
        for noise in ["", "[]", "\"x\"", "{\"x\":1}", "{\"status\":5}", "<html>"] {
            assert_eq!(read(noise.as_bytes()).unwrap(), None, "{noise}");
        }
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; LONGEST]).is_ok());
        assert!(lines.push(b"xx").is_err(), "memory is bounded");
    }
}
