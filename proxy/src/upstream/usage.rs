//! What the last bytes of an answer say: tokens, and whether it ended as its dialect ends. The
//! stream itself is never parsed; counts stand in the last few hundred bytes (ollama-api.md §3.1, §4).

use memchr::memmem;

/// The last bytes that are kept.
const TAIL: usize = 512;

/// The tail of an answer as it passes.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// At most twice `TAIL` bytes, so that they are moved only now and then.
    bytes: Vec<u8>,
    /// Length of the whole body.
    pub(crate) total: u64,
}

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Of the prompt.
    pub(crate) prompt: Option<u64>,
    /// Generated.
    pub(crate) output: Option<u64>,
    /// Time of the generation, nanoseconds; native routes only.
    pub(crate) output_nanos: Option<u64>,
    /// Time of loading, nanoseconds; native routes only.
    pub(crate) load_nanos: Option<u64>,
}

impl Tail {
    /// Notes a piece of the body.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.total += piece.len() as u64;
        if piece.len() >= TAIL {
            self.bytes.clear();
            self.bytes.extend_from_slice(&piece[piece.len() - TAIL..]);
            return;
        }
        if self.bytes.len() + piece.len() > 2 * TAIL {
            let surplus = self.bytes.len() - TAIL;
            self.bytes.drain(..surplus);
        }
        self.bytes.extend_from_slice(piece);
    }

    /// The bytes kept.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the body so far ends within a line.
    pub(crate) fn is_mid_line(&self) -> bool {
        self.bytes.last().is_some_and(|byte| *byte != b'\n')
    }

    /// Whether a stream ended the way its dialect ends a whole one.
    pub(crate) fn has_terminator(&self) -> bool {
        const ENDS: [&[u8]; 5] = [
            b"\"done\":true",
            b"data: [DONE]",
            b"event: message_stop",
            b"event: response.completed",
            b"\"status\":\"success\"",
        ];
        ENDS.iter()
            .any(|end| memmem::rfind(&self.bytes, end).is_some())
    }

    /// Whether the last line is an error of Ollama's own.
    pub(crate) fn ends_in_error(&self) -> bool {
        let text = self.bytes.trim_ascii_end();
        let line = memchr::memrchr(b'\n', text).map_or(text, |at| &text[at + 1..]);
        line.starts_with(b"{\"error\":")
    }

    /// Reads the counts of whichever dialect: the last number under each key, in one pass from the
    /// end.
    pub(crate) fn tokens(&self) -> Tokens {
        let mut tokens = Tokens::default();
        for colon in memchr::memrchr_iter(b':', &self.bytes) {
            let slot = match key_before(&self.bytes[..colon]) {
                Some(b"prompt_eval_count" | b"prompt_tokens" | b"input_tokens") => {
                    &mut tokens.prompt
                }
                Some(b"eval_count" | b"completion_tokens" | b"output_tokens") => &mut tokens.output,
                Some(b"eval_duration") => &mut tokens.output_nanos,
                Some(b"load_duration") => &mut tokens.load_nanos,
                _ => continue,
            };
            if slot.is_none() {
                *slot = number(&self.bytes[colon + 1..]);
            }
            if tokens.load_nanos.is_some() {
                break; // the first of Ollama's own metrics: the others stood behind it
            }
        }
        tokens
    }
}

/// Longest key that is looked for, bytes.
const LONGEST_KEY: usize = 20;

/// The key that ends right before a colon. In generated text quotes stand escaped: that is no key.
fn key_before(bytes: &[u8]) -> Option<&[u8]> {
    let text = bytes.strip_suffix(b"\"")?;
    let from = text.len().saturating_sub(LONGEST_KEY);
    let quote = from + memchr::memrchr(b'"', &text[from..])?;
    let escaped = quote > 0 && text[quote - 1] == b'\\';
    (!escaped).then(|| &text[quote + 1..])
}

/// The number that begins here and is followed by something else.
fn number(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(body: &str, piece: usize) -> Tail {
        let mut tail = Tail::default();
        for chunk in body.as_bytes().chunks(piece) {
            tail.push(chunk);
        }
        tail
    }

    #[test]
    fn counts_are_read_in_every_dialect_and_any_cut() {
        let native = format!(
            "{}{{\"done\":true,\"load_duration\":5,\"prompt_eval_count\":15,\"prompt_eval_duration\":2,\"eval_count\":6,\"eval_duration\":12}}\n",
            "{\"response\":\"x\"}\n".repeat(300)
        );
        let openai = "data: {\"usage\":{\"prompt_tokens\":15,\"completion_tokens\":6,\"total_tokens\":21}}\n\ndata: [DONE]\n\n";
        let anthropic = "event: message_delta\ndata: {\"usage\":{\"input_tokens\":15,\"output_tokens\":6}}\n\nevent: message_stop\ndata: {}\n\n";
        for body in [native.as_str(), openai, anthropic] {
            for piece in [1, 7, 100, 5000] {
                let tail = tail(body, piece);
                assert_eq!(
                    (tail.tokens().prompt, tail.tokens().output),
                    (Some(15), Some(6)),
                    "{body}"
                );
                assert!(tail.has_terminator() && !tail.is_mid_line());
                assert_eq!(tail.total, body.len() as u64);
            }
        }
        assert_eq!(tail(&native, 9).tokens().load_nanos, Some(5));
    }

    #[test]
    fn a_stream_that_breaks_shows() {
        let cut = tail("{\"response\":\"a\",\"done\":false}\n{\"respo", 8);
        assert!(cut.is_mid_line() && !cut.has_terminator());
        assert_eq!(cut.tokens(), Tokens::default());
        assert!(tail("{\"a\":1}\n{\"error\":\"x\"}\n", 8).ends_in_error());
    }

    #[test]
    fn generated_text_is_no_count() {
        assert_eq!(
            tail(r#"{"response":"\"eval_count\":9,"}"#, 5)
                .tokens()
                .output,
            None
        );
    }
}
