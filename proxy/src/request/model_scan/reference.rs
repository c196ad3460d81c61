//! The plain decoder that the scanner is held to: it reads a whole document into a tree by
//! recursion and then takes the fields out of it, as Go's `encoding/json` does in its two passes.
//! For tests and fuzzing only. It knows nothing of the scanner.

/// What Go makes of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The document ends too early: `EOF` or `unexpected EOF`.
    Truncated,
    /// `invalid character …` or `exceeded max depth`.
    Syntax,
    /// A whole first value.
    Value(Fields),
}

/// The fields of the document, as far as its value is an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    /// Where the first value ends.
    pub(super) end: usize,
    /// `Some(true)` for an object, `Some(false)` for `null`.
    pub(super) object: Option<bool>,
    /// `model`.
    pub(super) model: Text,
    /// `name`.
    pub(super) name: Text,
    /// `stream`.
    pub(super) stream: Option<bool>,
    /// `stream_options.include_usage`.
    pub(super) include_usage: Option<bool>,
    /// Whether the last `node_id` was not `null`.
    pub(super) node_id: bool,
    /// How often `model`, `keep_alive`, `tools` and the three names of work were there.
    pub(super) given: [u32; 4],
}

/// A field of Go's type `string`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Text {
    /// Never set.
    #[default]
    Unset,
    /// Its last value, and how long that was as written.
    Is(String, usize),
    /// `cannot unmarshal … of type string`.
    TypeError,
}

/// Decodes the first value of a document.
pub(super) fn decode(document: &[u8]) -> Verdict {
    let mut reader = Reader { document, at: 0 };
    let value = match reader.value(0) {
        Ok(value) => value,
        Err(Stop::Truncated) => return Verdict::Truncated,
        Err(Stop::Syntax) => return Verdict::Syntax,
    };
    let mut fields = Fields {
        end: reader.at,
        object: None,
        model: Text::Unset,
        name: Text::Unset,
        stream: None,
        include_usage: None,
        node_id: false,
        given: [0; 4],
    };
    match value {
        Json::Null => fields.object = Some(false),
        Json::Object(members) => {
            fields.object = Some(true);
            for member in &members {
                fields.set(member);
            }
        }
        _ => {}
    }
    Verdict::Value(fields)
}

enum Json {
    Null,
    Bool(bool),
    Number,
    /// Decoded, and the length as written.
    Text(String, usize),
    Array,
    Object(Vec<(String, Json)>),
}

impl Fields {
    fn set(&mut self, (key, value): &(String, Json)) {
        let counted: [&[&str]; 4] = [
            &["model"],
            &["keep_alive"],
            &["tools"],
            &["prompt", "messages", "input"],
        ];
        let key_is = |names: &&[&str]| names.contains(&fold(key).as_str());
        if let Some(index) = counted.iter().position(key_is) {
            self.given[index] += 1;
        }
        match (fold(key).as_str(), value) {
            ("model", value) => self.model.set(value),
            ("name", value) => self.name.set(value),
            ("stream", Json::Bool(on)) => self.stream = Some(*on),
            ("node_id", value) => self.node_id = !matches!(value, Json::Null),
            ("stream_options", Json::Null) => self.include_usage = None,
            ("stream_options", Json::Object(members)) => {
                for (key, value) in members {
                    if let ("include_usage", Json::Bool(on)) = (fold(key).as_str(), value) {
                        self.include_usage = Some(*on);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Text {
    fn set(&mut self, value: &Json) {
        match (&self, value) {
            (Self::TypeError, _) | (_, Json::Null) => {}
            (_, Json::Text(text, length)) => *self = Self::Is(text.clone(), *length),
            (_, Json::Bool(_) | Json::Number | Json::Array | Json::Object(_)) => {
                *self = Self::TypeError;
            }
        }
    }
}

/// Unicode's simple folding, as far as it leads to ASCII.
fn fold(key: &str) -> String {
    key.to_ascii_lowercase()
        .replace('\u{17f}', "s")
        .replace('\u{212a}', "k")
}

enum Stop {
    Truncated,
    Syntax,
}

struct Reader<'a> {
    document: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.document.get(self.at).copied().ok_or(Stop::Truncated)
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        if self.next()? == wanted {
            Ok(())
        } else {
            Err(Stop::Syntax)
        }
    }

    fn blanks(&mut self) -> Result<u8, Stop> {
        while matches!(self.peek()?, b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
        self.peek()
    }

    fn value(&mut self, depth: usize) -> Result<Json, Stop> {
        match self.blanks()? {
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => {
                let (text, length) = self.text()?;
                Ok(Json::Text(text, length))
            }
            b't' => self.word(b"true", Json::Bool(true)),
            b'f' => self.word(b"false", Json::Bool(false)),
            b'n' => self.word(b"null", Json::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8], value: Json) -> Result<Json, Stop> {
        for &letter in word {
            self.expect(letter)?;
        }
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Json, Stop> {
        self.at += 1;
        if depth > 10_000 {
            return Err(Stop::Syntax);
        }
        let mut members = Vec::new();
        if self.blanks()? == b'}' {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            if self.blanks()? != b'"' {
                return Err(Stop::Syntax);
            }
            let (key, _) = self.text()?;
            self.blanks()?;
            self.expect(b':')?;
            members.push((key, self.value(depth)?));
            self.blanks()?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(Json::Object(members)),
                _ => return Err(Stop::Syntax),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Stop> {
        self.at += 1;
        if depth > 10_000 {
            return Err(Stop::Syntax);
        }
        if self.blanks()? == b']' {
            self.at += 1;
            return Ok(Json::Array);
        }
        loop {
            self.value(depth)?;
            self.blanks()?;
            match self.next()? {
                b',' => {}
                b']' => return Ok(Json::Array),
                _ => return Err(Stop::Syntax),
            }
        }
    }

    fn digits(&mut self) -> Result<(), Stop> {
        if !self.next()?.is_ascii_digit() {
            return Err(Stop::Syntax);
        }
        while self.peek().is_ok_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json, Stop> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek().is_ok_and(|byte| byte == b'.') {
            self.at += 1;
            self.digits()?;
        }
        if self.peek().is_ok_and(|byte| matches!(byte, b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        // Inside of something more must come; that is for the caller to find out.
        Ok(Json::Number)
    }

    fn text(&mut self) -> Result<(String, usize), Stop> {
        self.expect(b'"')?;
        let start = self.at;
        let mut out = Vec::new();
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => self.escape(&mut out)?,
                0..=0x1f => return Err(Stop::Syntax),
                byte => out.push(byte),
            }
        }
        Ok((go_string(&out), self.at - 1 - start))
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let byte = match self.next()? {
            b'u' => return self.unicode(out),
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            byte @ (b'"' | b'\\' | b'/') => byte,
            _ => return Err(Stop::Syntax),
        };
        out.push(byte);
        Ok(())
    }

    fn unicode(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let first = self.four_digits()?;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) && self.document[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            } else {
                self.at = back;
            }
        }
        let letter = char::from_u32(code).unwrap_or('\u{fffd}');
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn four_digits(&mut self) -> Result<u32, Stop> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = char::from(self.next()?).to_digit(16);
            code = code * 16 + digit.ok_or(Stop::Syntax)?;
        }
        Ok(code)
    }
}

/// U+FFFD for each byte that is not part of a valid character.
fn go_string(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let letter = (1..=4).find_map(|length| {
            let piece = std::str::from_utf8(bytes.get(at..at + length)?).ok()?;
            Some((piece.chars().next()?, length))
        });
        let (letter, length) = letter.unwrap_or(('\u{fffd}', 1));
        out.push(letter);
        at += length;
    }
    out
}
