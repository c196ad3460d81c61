//! Takes the counts out of a `/v1` stream again whose client did not ask for them: an event with
//! no choices goes whole, from any other the member `usage` goes (ollama-api.md §4.1, §4.2). All
//! other bytes pass as they are, and at once: of a line that has not ended only so much waits as
//! could be part of what goes.

use bytes::{Buf, Bytes};
use memchr::{memchr, memmem, memrchr};

use crate::request::members::{elements, members};

/// A line that is longer passes but for its last bytes: no event without choices is as long.
const LONGEST: usize = 64 << 10;
/// More than a member `usage` and what follows it.
const END: usize = 512;
const KEY: &[u8] = b"\"usage\":";

/// The filter of one answer.
#[derive(Debug, Default)]
pub(crate) struct UsageFilter {
    /// The start of a line whose end has not come; of one that is too long, its last bytes.
    held: Vec<u8>,
    /// Whether the start of the line under way has passed.
    is_long: bool,
    /// Whether the empty line behind an event that went goes, too.
    drop_blank: bool,
}

impl UsageFilter {
    /// Filters a piece of the answer; `end` says that it is the last.
    pub(crate) fn pass(&mut self, body: &mut Option<Bytes>, end: bool) {
        let mut piece = body.take().unwrap_or_default();
        if self.passes(&piece, end) {
            let tail = memrchr(b'\n', &piece).map_or(0, |at| at + 1);
            self.held.extend_from_slice(&piece.split_off(tail));
        } else {
            piece = self.cut(&piece, end);
        }
        *body = Some(piece).filter(|piece| !piece.is_empty());
    }

    /// Whether the client has got a part of a line.
    pub(crate) fn is_mid_line(&self) -> bool {
        self.is_long
    }

    /// Whether the whole lines of a piece pass as they are, the usual case.
    fn passes(&self, piece: &[u8], end: bool) -> bool {
        let from_start = self.held.is_empty() && !self.drop_blank && !self.is_long;
        from_start && !end && piece.len() <= LONGEST && memmem::find(piece, KEY).is_none()
    }

    fn cut(&mut self, piece: &[u8], end: bool) -> Bytes {
        let mut out = Vec::with_capacity(self.held.len() + piece.len());
        let mut rest = piece;
        while let Some(at) = memchr(b'\n', rest) {
            if self.held.is_empty() {
                self.line(&rest[..=at], &mut out);
            } else {
                self.held.extend_from_slice(&rest[..=at]);
                self.held_line(&mut out);
            }
            rest.advance(at + 1);
        }
        self.held.extend_from_slice(rest);
        if end {
            self.held_line(&mut out);
        } else if self.held.len() > LONGEST || self.is_long {
            let passes = self.held.len().saturating_sub(END);
            out.extend(self.held.drain(..passes));
            self.is_long = true;
        }
        out.into()
    }

    fn held_line(&mut self, out: &mut Vec<u8>) {
        let mut line = std::mem::take(&mut self.held);
        self.line(&line, out);
        line.clear();
        self.held = line;
    }

    /// A line, or the end of a long one.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let is_long = std::mem::take(&mut self.is_long);
        if std::mem::take(&mut self.drop_blank) && line.trim_ascii_end().is_empty() {
            return;
        }
        match goes(line, is_long) {
            Goes::Nothing => out.extend_from_slice(line),
            Goes::Event => self.drop_blank = true,
            Goes::Part(from, to) => {
                out.extend_from_slice(&line[..from]);
                out.extend_from_slice(&line[to..]);
            }
        }
    }
}

/// What of a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    Nothing,
    /// All of it.
    Event,
    /// The bytes from here to there.
    Part(usize, usize),
}

/// What of a line goes, or of the end of a long one.
fn goes(line: &[u8], is_long: bool) -> Goes {
    if memmem::find(line, KEY).is_none() {
        Goes::Nothing
    } else if is_long {
        at_the_end(line)
    } else {
        of_event(line)
    }
}

/// What of a whole `data:` line goes.
fn of_event(line: &[u8]) -> Goes {
    let Some(json) = line.strip_prefix(b"data:") else {
        return Goes::Nothing;
    };
    let offset = line.len() - json.len();
    let (mut before, mut has_choices, mut part) = (None, true, None);
    for member in members(json) {
        if member.is("usage") {
            // with the comma before it, or, where it is the first, with the one behind it
            part = Some((
                before.unwrap_or(member.key_at),
                member.at.end,
                before.is_none(),
            ));
        } else if let Some((from, _, true)) = part {
            part = Some((from, member.key_at, false));
        }
        if member.is("choices") {
            has_choices =
                member.value.first() != Some(&b'[') || elements(member.value).next().is_some();
        }
        before = Some(member.at.end);
    }
    match part {
        None => Goes::Nothing,
        Some(_) if !has_choices => Goes::Event,
        Some((from, to, _)) => Goes::Part(offset + from, offset + to),
    }
}

/// The same of the end of a line that was too long to be held: counts are the last member there.
fn at_the_end(line: &[u8]) -> Goes {
    let Some(at) = memmem::rfind(line, b",\"usage\":{") else {
        return Goes::Nothing;
    };
    let counts = &line[at..];
    let Some(close) = memchr(b'}', counts) else {
        return Goes::Nothing;
    };
    let plain =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"\",:_{".contains(byte);
    let is_last = counts[close + 1..].trim_ascii_end() == b"}";
    if is_last && counts[..close].iter().all(plain) {
        Goes::Part(at, at + close + 1)
    } else {
        Goes::Nothing
    }
}

#[cfg(test)]
mod tests;
