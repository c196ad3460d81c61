//! The incremental JSON scanner: a state a byte, and runs where there is nothing to decide.

use super::field::{Field, Found, Outcome, Root};
use super::nesting::Nesting;
use super::skip;
use super::text::{key_is, unquote, which};

/// The longest text kept, as written; six times the longest valid name.
const MAX_TEXT: usize = 4096;
/// The longest key that can be one of ours: `stream_options` with each letter escaped, and some.
const MAX_KEY: usize = 96;

/// Where in the grammar the next byte stands (the states of Go's `scanner.go`).
#[derive(Clone, Copy, Debug)]
enum State {
    /// A value must begin.
    Value,
    /// After `[`: a value or `]`.
    FirstValue,
    /// After `{`: a key or `}`.
    FirstKey,
    /// After a comma in an object.
    NextKey,
    Colon,
    /// After a value in an object or array: a comma or its end.
    After,
    Text,
    /// After a backslash.
    Escape,
    /// So many hexadecimal digits to come.
    Hex(u8),
    Number(Number),
    /// Inside `true`, `false` or `null`, so many letters in.
    Word(Word, u8),
    Closed,
    Failed,
}

/// Where in a number.
#[derive(Clone, Copy, Debug)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    Sign,
    ExponentDigits,
}

#[derive(Clone, Copy, Debug)]
enum Word {
    True,
    False,
    Null,
}

/// Keys of the root that are told apart.
const ROOT_KEYS: [&str; 10] = [
    "model",
    "name",
    "stream",
    "stream_options",
    "keep_alive",
    "tools",
    "prompt",
    "messages",
    "input",
    "node_id",
];

/// The field that the value under way belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    None,
    Model,
    Name,
    Stream,
    Options,
    IncludeUsage,
    NodeId,
}

/// What the string under way is kept for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keep {
    Nothing,
    Key,
    Model,
    Name,
}

/// A scan of a JSON body.
#[derive(Debug)]
pub(super) struct JsonScan {
    state: State,
    nesting: Nesting,
    /// Whether the open object at depth 2 is `stream_options`.
    in_options: bool,
    /// Whether the string under way is a key.
    in_key: bool,
    target: Target,
    keep: Keep,
    /// The kept string as written, up to its limit.
    kept: Vec<u8>,
    overflow: bool,
    /// Bytes consumed.
    seen: u64,
    found: Found,
}

impl JsonScan {
    pub(super) fn new() -> Self {
        Self {
            state: State::Value,
            nesting: Nesting::default(),
            in_options: false,
            in_key: false,
            target: Target::None,
            keep: Keep::Nothing,
            kept: Vec::new(),
            overflow: false,
            seen: 0,
            found: Found::nothing(),
        }
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            at += match self.state {
                State::Text => self.text(&chunk[at..]),
                State::Number(number) => self.number(number, &chunk[at..]),
                State::Closed | State::Failed => break,
                _ => {
                    self.step(chunk[at]);
                    1
                }
            };
        }
        self.seen += at as u64;
        self.note_end();
    }

    /// The first time it is asked in the closed state, `seen` is where that began.
    fn note_end(&mut self) {
        if matches!(self.state, State::Closed) {
            self.found.end.get_or_insert(self.seen);
        }
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// A number at the root ends with the body.
    pub(super) fn finish(mut self) -> Found {
        if let State::Number(number) = self.state
            && number.may_end()
        {
            self.value_ended();
            self.note_end();
        }
        self.found
    }

    /// One byte where each has a meaning of its own.
    fn step(&mut self, byte: u8) {
        match self.state {
            State::Escape => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.escaped(byte, 0),
                b'u' => self.escaped(byte, 4),
                _ => self.fail(),
            },
            State::Hex(left) if byte.is_ascii_hexdigit() => self.escaped(byte, left - 1),
            State::Word(word, at) if byte == word.spelt()[usize::from(at)] => {
                self.word(word, at + 1);
            }
            State::Hex(_) | State::Word(..) => self.fail(),
            _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => {}
            State::FirstValue if byte == b']' => self.close(),
            State::FirstKey if byte == b'}' => self.close(),
            State::Value | State::FirstValue => self.value(byte),
            State::FirstKey | State::NextKey if byte == b'"' => self.key(),
            State::Colon if byte == b':' => self.state = State::Value,
            State::After => self.after(byte),
            _ => self.fail(),
        }
    }

    /// A value begins.
    fn value(&mut self, byte: u8) {
        let target = self.target;
        if self.nesting.depth() == 0 {
            self.found.root = match byte {
                b'{' => Root::Object,
                b'n' => Root::Null,
                _ => Root::Other,
            };
        }
        if target == Target::NodeId {
            self.found.node_id = byte != b'n'; // of a broken value nobody asks
        }
        match byte {
            b'"' => return self.begin_text(target),
            b't' => return self.state = State::Word(Word::True, 1),
            b'f' => return self.state = State::Word(Word::False, 1),
            b'n' => return self.state = State::Word(Word::Null, 1),
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'-' => self.state = State::Number(Number::Minus),
            b'0' => self.state = State::Number(Number::Zero),
            b'1'..=b'9' => self.state = State::Number(Number::Digits),
            _ => return self.fail(),
        }
        self.not_a_text(target);
        self.in_options |= target == Target::Options && byte == b'{';
        self.target = Target::None;
    }

    fn begin_text(&mut self, target: Target) {
        self.keep = match target {
            Target::Model => Keep::Model,
            Target::Name => Keep::Name,
            _ => Keep::Nothing,
        };
        self.in_key = false;
        self.begin_kept();
        self.target = Target::None;
    }

    /// A key begins; only those of the root and of `stream_options` are kept.
    fn key(&mut self) {
        let ours = match self.nesting.depth() {
            1 => true,
            2 => self.in_options,
            _ => false,
        };
        self.keep = if ours { Keep::Key } else { Keep::Nothing };
        self.in_key = true;
        self.begin_kept();
    }

    fn begin_kept(&mut self) {
        self.kept.clear();
        self.overflow = false;
        self.state = State::Text;
    }

    /// Content up to its end, or to an escape that the chunk cuts; returns how much that was.
    fn text(&mut self, rest: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let run = at + skip::plain(&rest[at..]);
            self.keep(&rest[at..run]);
            match rest[run..] {
                [] => return run,
                [b'"', ..] => self.end_text(),
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    ..,
                ] => {
                    self.keep(&rest[run..run + 2]);
                    at = run + 2;
                    continue;
                }
                [b'\\', ..] => {
                    self.keep(b"\\");
                    self.state = State::Escape;
                }
                _ => self.fail(),
            }
            return run + 1;
        }
    }

    /// A byte of an escape, and how many digits must follow.
    fn escaped(&mut self, byte: u8, digits: u8) {
        self.keep(&[byte]);
        self.state = match digits {
            0 => State::Text,
            left => State::Hex(left),
        };
    }

    fn keep(&mut self, bytes: &[u8]) {
        let limit = match self.keep {
            Keep::Nothing => return,
            Keep::Key => MAX_KEY,
            Keep::Model | Keep::Name => MAX_TEXT,
        };
        if self.kept.len() + bytes.len() > limit {
            self.overflow = true;
        } else if !self.overflow {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn end_text(&mut self) {
        if self.in_key {
            self.target = self.key_ended();
            self.state = State::Colon;
            return;
        }
        let value = if self.overflow {
            Field::TooLong
        } else {
            Field::Text(match self.keep {
                Keep::Model | Keep::Name => unquote(&self.kept),
                Keep::Nothing | Keep::Key => String::new(),
            })
        };
        match self.keep {
            Keep::Model => self.found.model.set(value),
            Keep::Name => self.found.name.set(value),
            Keep::Nothing | Keep::Key => {}
        }
        self.value_ended();
    }

    /// Which field the key that ended names.
    fn key_ended(&mut self) -> Target {
        if self.keep != Keep::Key || self.overflow {
            return Target::None;
        }
        if self.nesting.depth() == 2 {
            return if key_is(&self.kept, "include_usage") {
                Target::IncludeUsage
            } else {
                Target::None
            };
        }
        let given = &mut self.found.given;
        let (count, target) = match which(&self.kept, &ROOT_KEYS) {
            Some(0) => (&mut given.model, Target::Model),
            Some(1) => return Target::Name,
            Some(2) => return Target::Stream,
            Some(3) => return Target::Options,
            Some(4) => (&mut given.keep_alive, Target::None),
            Some(5) => (&mut given.tools, Target::None),
            Some(6..=8) => (&mut given.work, Target::None),
            Some(9) => return Target::NodeId,
            _ => return Target::None,
        };
        *count = count.saturating_add(1);
        target
    }

    /// So many letters of a literal were right.
    fn word(&mut self, word: Word, letters: u8) {
        if usize::from(letters) < word.spelt().len() {
            self.state = State::Word(word, letters);
            return;
        }
        let target = std::mem::replace(&mut self.target, Target::None);
        let flag = match word {
            Word::True => Some(true),
            Word::False => Some(false),
            Word::Null => None,
        };
        match (target, flag) {
            (Target::Stream, Some(_)) => self.found.stream = flag,
            (Target::IncludeUsage, Some(_)) => self.found.include_usage = flag,
            // Go's pointer to the options becomes nil; all other fields keep their value.
            (Target::Options, None) => self.found.include_usage = None,
            (_, Some(_)) => self.not_a_text(target),
            (_, None) => {}
        }
        self.value_ended();
    }

    /// The field gets a value that is neither a string nor `null`.
    fn not_a_text(&mut self, target: Target) {
        match target {
            Target::Model => self.found.model.set(Field::WrongType),
            Target::Name => self.found.name.set(Field::WrongType),
            _ => {}
        }
    }

    /// In or just after a number; returns how many bytes were used.
    fn number(&mut self, number: Number, rest: &[u8]) -> usize {
        if let Some(next) = number.next(rest[0]) {
            self.state = State::Number(next);
            match next {
                Number::Digits | Number::Fraction | Number::ExponentDigits => {
                    skip::digits(rest).max(1)
                }
                _ => 1,
            }
        } else if number.may_end() {
            self.value_ended();
            0
        } else {
            self.fail();
            0
        }
    }

    fn open(&mut self, object: bool) {
        self.state = if !self.nesting.push(object) {
            return self.fail();
        } else if object {
            State::FirstKey
        } else {
            State::FirstValue
        };
    }

    fn after(&mut self, byte: u8) {
        match (byte, self.nesting.in_object()) {
            (b',', true) => self.state = State::NextKey,
            (b',', false) => self.state = State::Value,
            (b'}', true) | (b']', false) => self.close(),
            _ => self.fail(),
        }
    }

    fn close(&mut self) {
        self.nesting.pop();
        self.in_options &= self.nesting.depth() >= 2;
        self.value_ended();
    }

    fn value_ended(&mut self) {
        if self.nesting.depth() == 0 {
            self.state = State::Closed;
            self.found.outcome = Outcome::Complete;
        } else {
            self.state = State::After;
        }
    }

    fn fail(&mut self) {
        self.state = State::Failed;
        self.found.outcome = Outcome::Broken;
    }
}

impl Word {
    fn spelt(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

impl Number {
    /// The next state, if the byte belongs to the number.
    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Minus, b'0') => Some(Self::Zero),
            (Self::Minus, b'1'..=b'9') | (Self::Digits, b'0'..=b'9') => Some(Self::Digits),
            (Self::Zero | Self::Digits, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Digits | Self::Fraction, b'e' | b'E') => Some(Self::Exponent),
            (Self::Exponent, b'+' | b'-') => Some(Self::Sign),
            (Self::Exponent | Self::Sign | Self::ExponentDigits, b'0'..=b'9') => {
                Some(Self::ExponentDigits)
            }
            _ => None,
        }
    }

    /// Whether a number may end here.
    fn may_end(self) -> bool {
        match self {
            Self::Zero | Self::Digits | Self::Fraction | Self::ExponentDigits => true,
            Self::Minus | Self::Point | Self::Exponent | Self::Sign => false,
        }
    }
}
