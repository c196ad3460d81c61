//! The incremental scan of a `multipart/form-data` body for its field `model`.
//!
//! The rules are those of Go's `mime/multipart`: CRLF lines, or LF alone if the first boundary
//! line ends so; a preamble is passed over; the first value of a field counts, a part with a file
//! name is none. Where this scan would have to guess (RFC 2231 names, a quoted-printable value, a
//! disposition it cannot read) and no `model` came before, the field is [`Field::WrongType`]:
//! better no answer than another than the node's.
//!
//! Stricter than Go: the headers of one part may have 16 KiB (Go: 10 MiB). Laxer: what follows
//! the closing `--boundary--` is not looked at, and no limit is set on the number of parts.

use super::field::{Field, Found, Outcome, Root};
use super::media_type::{MediaType, is_token};
use super::skip;
use super::text::lossy;

/// The longest line before or between parts: the buffer of Go's reader.
const MAX_LINE: usize = 4096;
/// The most that the headers of one part may have.
const MAX_HEADERS: usize = 16 * 1024;
/// The longest value kept.
const MAX_VALUE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// In a line that may be a boundary's.
    Line,
    Headers,
    /// In a part's content; so many bytes of the delimiter have matched.
    Content(usize),
    /// The delimiter matched whole; what follows decides. With a `-` already seen or not.
    Delimiter {
        dash: bool,
    },
    Closed,
    Failed,
}

/// What a part's content is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Other,
    Model,
    /// Perhaps the model, in a form that is not decoded here.
    Unclear,
}

/// A scan of a form.
#[derive(Debug)]
pub(super) struct MultipartScan {
    state: State,
    /// Line end, `--`, boundary: what ends a part's content.
    delimiter: Vec<u8>,
    /// How long the line end at its start is: 2, or 1 once a form was seen to use LF alone.
    line_end: usize,
    /// How much of the matched delimiter was never sent: at the start of a content the line end
    /// is taken as given.
    assumed: usize,
    first_part: bool,
    /// The line or the headers under way.
    line: Vec<u8>,
    part: Part,
    value: Vec<u8>,
    /// Where the content of the part began.
    value_at: u64,
    overflow: bool,
    seen: u64,
    found: Found,
}

impl MultipartScan {
    /// For a boundary of at least one byte, without line ends.
    pub(super) fn new(boundary: &[u8]) -> Self {
        let valid = !boundary.is_empty() && !boundary.iter().any(|b| matches!(b, b'\r' | b'\n'));
        let (state, outcome) = if valid {
            (State::Line, Outcome::Incomplete)
        } else {
            (State::Failed, Outcome::Broken)
        };
        Self {
            state,
            delimiter: [b"\r\n--", boundary].concat(),
            line_end: 2,
            assumed: 0,
            first_part: true,
            line: Vec::new(),
            part: Part::Other,
            value: Vec::new(),
            value_at: 0,
            overflow: false,
            seen: 0,
            found: Found {
                outcome,
                root: Root::Object,
                ..Found::nothing()
            },
        }
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            let used = match self.state {
                State::Line => self.line(chunk[at]),
                State::Headers => self.headers(chunk[at]),
                State::Content(0) => self.content(&chunk[at..]),
                State::Content(matched) => self.delimiter(matched, chunk[at]),
                State::Delimiter { dash } => self.after_delimiter(dash, chunk[at]),
                State::Closed | State::Failed => return,
            };
            at += used;
            self.seen += used as u64;
            if self.state == State::Closed {
                self.found.end = Some(self.seen);
            }
        }
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// The body has ended. Go takes an end within a part's headers for the form's.
    pub(super) fn finish(mut self) -> Found {
        match self.state {
            State::Line if self.is_closing() => self.close(),
            State::Headers if !self.line.ends_with(b"\r") && fields(&self.line).is_some() => {
                self.close();
            }
            State::Headers => self.fail(),
            _ => {}
        }
        if self.state == State::Closed {
            self.found.end.get_or_insert(self.seen);
        }
        self.found
    }

    /// A byte of a line outside of parts.
    fn line(&mut self, byte: u8) -> usize {
        self.line.push(byte);
        if byte == b'\n' {
            self.line_ended();
        } else if self.line.len() >= MAX_LINE {
            self.fail();
        } else if !self.first_part
            && self.line.len() == self.dashes().len() + 2
            && self.is_closing()
        {
            self.close();
        }
        1
    }

    fn line_ended(&mut self) {
        if self.first_part && self.after_dashes(b"") == Some(b"\n") {
            self.line_end = 1;
        }
        if self.after_dashes(b"") == Some(self.line_end()) {
            self.first_part = false;
            self.line.clear();
            self.state = State::Headers;
            return;
        }
        if self.is_closing() {
            self.close();
        } else if self.first_part {
            self.line.clear();
        } else {
            self.fail();
        }
    }

    /// Whether the line is `--boundary--`, with blanks and a line end or not.
    fn is_closing(&self) -> bool {
        self.after_dashes(b"--")
            .is_some_and(|rest| rest.is_empty() || rest == self.line_end())
    }

    /// What follows `--boundary`, `more` and blanks in the line.
    fn after_dashes(&self, more: &[u8]) -> Option<&[u8]> {
        let rest = self.line.strip_prefix(self.dashes())?.strip_prefix(more)?;
        let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
        Some(&rest[blanks.unwrap_or(rest.len())..])
    }

    /// `--boundary`.
    fn dashes(&self) -> &[u8] {
        &self.delimiter[2..]
    }

    fn line_end(&self) -> &[u8] {
        &self.delimiter[2 - self.line_end..2]
    }

    /// A byte of a part's headers; they end with an empty line.
    fn headers(&mut self, byte: u8) -> usize {
        self.line.push(byte);
        if byte == b'\n' && (self.line.ends_with(b"\n\n") || self.line.ends_with(b"\n\r\n"))
            || matches!(self.line[..], [b'\n'] | [b'\r', b'\n'])
        {
            self.begin_part();
        } else if self.line.len() >= MAX_HEADERS {
            self.fail();
        }
        1
    }

    fn begin_part(&mut self) {
        let headers = std::mem::take(&mut self.line);
        let Some(part) = part_of(&headers) else {
            return self.fail();
        };
        self.part = match self.found.model {
            Field::Absent => part,
            _ => Part::Other, // the first one counted
        };
        self.value.clear();
        self.value_at = self.seen + 1; // behind the byte at hand
        self.overflow = false;
        self.assumed = self.line_end;
        self.state = State::Content(self.line_end);
    }

    /// The delimiter of this form, with the line end in use.
    fn needle(&self) -> &[u8] {
        &self.delimiter[2 - self.line_end..]
    }

    /// A run of content up to the next byte that may begin the delimiter.
    fn content(&mut self, rest: &[u8]) -> usize {
        let run = skip::before(rest, self.needle()[0]);
        self.keep(&rest[..run]);
        if run < rest.len() {
            self.assumed = 0;
            self.state = State::Content(1);
            return run + 1;
        }
        run
    }

    /// A byte where the next one of the delimiter may stand.
    fn delimiter(&mut self, matched: usize, byte: u8) -> usize {
        let needle = self.needle();
        if byte == needle[matched] {
            self.state = if matched + 1 == needle.len() {
                State::Delimiter { dash: false }
            } else {
                State::Content(matched + 1)
            };
            return 1;
        }
        // Only its first byte is a line end's, so the byte can only begin it anew.
        self.was_content(matched, b"");
        0
    }

    /// The delimiter counts if a blank, a line end or a second `-` follows.
    fn after_delimiter(&mut self, dash: bool, byte: u8) -> usize {
        match (dash, byte) {
            (false, b'-') => self.state = State::Delimiter { dash: true },
            (false, b' ' | b'\t' | b'\r' | b'\n') => return self.end_part(b""),
            (true, b'-') => return self.end_part(b"-"),
            _ => {
                let matched = self.needle().len();
                self.was_content(matched, if dash { b"-" } else { b"" });
                return 0;
            }
        }
        1
    }

    /// What looked like a delimiter was content.
    fn was_content(&mut self, matched: usize, more: &[u8]) {
        let bytes = [&self.needle()[self.assumed..matched], more].concat();
        self.keep(&bytes);
        self.state = State::Content(0);
    }

    /// The part is over; the boundary's line goes on with the byte at hand.
    fn end_part(&mut self, more: &[u8]) -> usize {
        let value = match self.part {
            Part::Other => Field::Absent,
            Part::Unclear => Field::WrongType,
            Part::Model if self.overflow => Field::TooLong,
            Part::Model => Field::Text(lossy(&self.value)),
        };
        if self.part != Part::Other {
            self.found.model = value;
        }
        if matches!(self.found.model, Field::Text(_)) && self.part == Part::Model {
            let end = self.value_at + self.value.len() as u64;
            self.found.model_at = Some((self.value_at, end));
        }
        self.line = [self.dashes(), more].concat();
        self.state = State::Line;
        0
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.part != Part::Model {
            return;
        }
        if self.value.len() + bytes.len() > MAX_VALUE {
            self.overflow = true;
        } else if !self.overflow {
            self.value.extend_from_slice(bytes);
        }
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.found.outcome = Outcome::Complete;
    }

    fn fail(&mut self) {
        self.state = State::Failed;
        self.found.outcome = Outcome::Broken;
    }
}

/// What a part is for, by its headers; `None` where Go rejects them.
fn part_of(headers: &[u8]) -> Option<Part> {
    let (mut disposition, mut encoding) = (None, None);
    for (name, value) in fields(headers)? {
        if name.eq_ignore_ascii_case(b"content-disposition") {
            disposition.get_or_insert(value);
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            encoding.get_or_insert(value);
        }
    }
    let Some(disposition) = disposition else {
        return Some(Part::Other);
    };
    let Some(parsed) = MediaType::parse(&disposition) else {
        return Some(Part::Unclear);
    };
    if parsed.kind != "form-data" {
        return Some(Part::Other);
    }
    if parsed.has_extended("name") {
        return Some(Part::Unclear);
    }
    if parsed.get("name") != Some(b"model") {
        return Some(Part::Other);
    }
    let quoted_printable =
        encoding.is_some_and(|value| value.eq_ignore_ascii_case(b"quoted-printable"));
    Some(if parsed.has_extended("filename") || quoted_printable {
        Part::Unclear
    } else if parsed.get("filename").is_some_and(|file| !file.is_empty()) {
        Part::Other
    } else {
        Part::Model
    })
}

/// The header fields, continued lines joined with a blank (`textproto.ReadMIMEHeader`).
fn fields(headers: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    for line in headers.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            let last = joined.last_mut()?;
            last.push(b' ');
            last.extend_from_slice(trim(line));
        } else if !line.is_empty() {
            if !line.contains(&b':') {
                return None; // a continuation cannot bring the colon
            }
            joined.push(trim(line).to_vec());
        }
    }
    joined.iter().map(|field| split_field(field)).collect()
}

fn split_field(field: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&field[..colon], &field[colon + 1..]);
    let name_ok = !name.is_empty() && name.iter().all(|&byte| is_token(byte) || byte == b' ');
    let value_ok = value
        .iter()
        .all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
    let start = value.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    (name_ok && value_ok).then(|| {
        let value = &value[start.unwrap_or(value.len())..];
        (name.to_vec(), value.to_vec())
    })
}

fn trim(line: &[u8]) -> &[u8] {
    let blank = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = line.iter().position(blank).unwrap_or(line.len());
    let end = line.iter().rposition(blank).map_or(start, |last| last + 1);
    &line[start..end]
}
