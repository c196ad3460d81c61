//! Counting a prompt's tokens without a tokenizer, and telling whether two begin alike.

/// Tokens in a block of [`Prompt::blocks`].
pub(crate) const BLOCK: usize = 16;

/// Tokens a chat template puts around one message.
const AROUND_MESSAGE: usize = 8;

/// A prompt as the scheduler and the clock see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt {
    pub(crate) tokens: usize,
    /// Each block's hash covers everything before it too.
    pub(crate) blocks: Vec<u32>,
    /// A hash of the whole.
    pub(crate) hash: u64,
}

/// Gathers the pieces of a prompt.
#[derive(Debug)]
pub(crate) struct PromptBuilder {
    tokens: usize,
    hash: u64,
    blocks: Vec<u32>,
}

impl PromptBuilder {
    /// A prompt with its first, invisible token.
    pub(crate) fn new() -> Self {
        Self {
            tokens: 1,
            hash: 0xcbf2_9ce4_8422_2325,
            blocks: Vec::new(),
        }
    }

    /// Adds text: a token a word or mark, long words more.
    pub(crate) fn text(&mut self, text: &str) {
        let mut run = 0;
        for b in text.bytes() {
            self.hash = (self.hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
            match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | 0x80.. => {
                    run += 1;
                    if run % 8 == 1 {
                        self.token();
                    }
                }
                b' ' | b'\n' | b'\r' | b'\t' => run = 0,
                _ => {
                    run = 0;
                    self.token();
                }
            }
        }
    }

    /// Adds the template's tokens around one message.
    pub(crate) fn message(&mut self, role: &str, content: &str) {
        self.hash = self.hash.rotate_left(7) ^ role.len() as u64;
        self.tokens += AROUND_MESSAGE;
        self.text(content);
    }

    fn token(&mut self) {
        self.tokens += 1;
        if self.tokens.is_multiple_of(BLOCK) {
            self.blocks.push((self.hash ^ (self.hash >> 32)) as u32);
        }
    }

    pub(crate) fn build(self) -> Prompt {
        let Self {
            tokens,
            hash,
            mut blocks,
        } = self;
        blocks.push((hash ^ (hash >> 32)) as u32);
        Prompt {
            tokens,
            blocks,
            hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_question_counts_as_it_did_on_a_real_model() {
        let mut raw = PromptBuilder::new();
        raw.text("Why is the sky blue?");
        assert_eq!(raw.build().tokens, 7);
        let mut chat = PromptBuilder::new();
        chat.message("user", "Why is the sky blue?");
        assert_eq!(chat.build().tokens, 15);
    }
}
