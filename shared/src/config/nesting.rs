//! How deep lists and mappings in brackets may stand in each other, found without a parser: the time that
//! libyaml takes grows with depth times length, so a megabyte of `[` would hold it for minutes, long
//! before anybody can look at what it parsed.
//!
//! The depth that is found here is never less than the real one. Where a line cannot be told for sure (a
//! quote in the middle of a word, one that ends on another line) no closing bracket counts from there on.

/// Deepest that is taken; `serde_yaml` itself refuses more than 128. Far above it, because lines that
/// cannot be told for sure add up.
const DEEPEST: usize = 1_000;

/// Whether a text may be nested deeper than anybody means to.
pub(super) fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut before = None;
    let mut is_hidden = false;
    for line in text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        let mut read = Line::new(before);
        let mut deepest = depth;
        let mut here = depth;
        read.brackets(line, |opens| {
            here = if opens {
                here + 1
            } else {
                here.saturating_sub(1)
            };
            deepest = deepest.max(here);
        });
        if is_hidden || !read.is_sure {
            let opening = line.chars().filter(|letter| "[{".contains(*letter));
            here = depth + opening.count();
            deepest = here;
            // a quote may go on over the next lines, but outside of brackets that hides none
            is_hidden = here > 0;
        }
        if deepest > DEEPEST {
            return true;
        }
        (depth, before) = (here, read.before);
    }
    false
}

/// What one line holds.
struct Line {
    /// The last letter that is no space, on this line or one before.
    before: Option<char>,
    /// Whether nothing was found that may be read in two ways.
    is_sure: bool,
}

impl Line {
    fn new(before: Option<char>) -> Self {
        Self {
            before,
            is_sure: true,
        }
    }

    /// Tells each bracket that is neither in quotes nor in a comment: `true` for one that opens.
    fn brackets(&mut self, line: &str, mut bracket: impl FnMut(bool)) {
        let mut letters = line.chars();
        let mut after_space = true;
        let mut is_start = true;
        while let Some(letter) = letters.next() {
            match letter {
                ' ' | '\t' => {
                    after_space = true;
                    continue;
                }
                '#' if after_space => return,
                '"' | '\'' => {
                    let is_item = is_start && after_space && line.trim_start().starts_with('-');
                    self.is_sure &= is_item || self.begins_a_value(after_space);
                    self.is_sure &= ends(&mut letters, letter);
                }
                '[' | '{' => bracket(true),
                ']' | '}' => bracket(false),
                _ => {}
            }
            // `- "text"`: what stands behind dashes is the start of the line still
            is_start &= letter == '-';
            (self.before, after_space) = (Some(letter), false);
        }
    }

    /// Whether a quote here is the first letter of a value, and no part of a word.
    fn begins_a_value(&self, after_space: bool) -> bool {
        match self.before {
            None | Some('[' | '{' | ',') => true,
            Some(':') => after_space,
            Some(_) => false,
        }
    }
}

/// Goes behind the quote that ends a text; whether there is one.
fn ends(letters: &mut std::str::Chars<'_>, quote: char) -> bool {
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quote == '"' => {
                letters.next();
            }
            letter if letter == quote => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_found_however_it_is_hidden() {
        for piece in [
            "[",
            "{a: ",
            "[ \"]\", ",
            "[ '}', ",
            "[a\n\"b, [ ]\", ",
            "[ !t \"]\", ",
            "[ &a ']', ",
            "[ # ]\n",
            "[a:'x, ', ",
            "[ \"\n]\n\", ",
            "[ 'it''s ]', ",
            "[ \"\\\"]\", ",
            "[ don't ], 't ]\n[[",
        ] {
            assert!(is_too_deep(&piece.repeat(2_000)), "{piece}");
        }
    }

    #[test]
    fn documents_that_people_write_pass() {
        for line in [
            "  - {name: a, url: \"http://h:1\", labels: {k: \"]\", j: '[['}, models: {include: [\"x*\"]}}\n",
            "  - name: b # [[\n    url: 'http://h'\n    labels: {}\n",
            "aliases: {a: [\"[x\", 'y]']}\n",
            "- \"[[\"\n- '[['\n",
            "ca: |\n  -----BEGIN CERTIFICATE-----\n  MII+/=\n",
        ] {
            assert!(!is_too_deep(&line.repeat(20_000)), "{line}");
        }
    }
}
