//! The scanner: one value from the front of a body, or Go's words for what is wrong with it.

use super::Json;

/// Go refuses more than 10,000 levels; this reader recurses and refuses earlier.
const MAX_DEPTH: usize = 500;

/// Reads the first JSON value of `body`; bytes after it are not looked at.
///
/// An error is Go's text: `EOF` for nothing at all, `unexpected EOF` for an unfinished value.
pub(crate) fn parse(body: &[u8]) -> Result<Json, String> {
    let mut scan = Scan {
        bytes: body,
        at: 0,
        depth: 0,
    };
    scan.space();
    if scan.at == body.len() {
        return Err("EOF".into());
    }
    scan.value()
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Scan<'_> {
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, String> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or_else(|| "unexpected EOF".to_owned())
    }

    fn next(&mut self) -> Result<u8, String> {
        let b = self.peek()?;
        self.at += 1;
        Ok(b)
    }

    /// The next byte after white space, not yet taken.
    fn ahead(&mut self) -> Result<u8, String> {
        self.space();
        self.peek()
    }

    fn value(&mut self) -> Result<Json, String> {
        match self.ahead()? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => {
                self.at += 1;
                self.string().map(Json::Str)
            }
            b't' => self.literal("true", Json::Bool(true)),
            b'f' => self.literal("false", Json::Bool(false)),
            b'n' => self.literal("null", Json::Null),
            b'-' | b'0'..=b'9' => self.number(),
            c => Err(invalid(c, "looking for beginning of value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json, String>) -> Result<Json, String> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Json, String> {
        let mut fields = Vec::new();
        if self.ahead()? == b'}' {
            self.at += 1;
            return Ok(Json::Obj(fields));
        }
        loop {
            match self.ahead()? {
                b'"' => self.at += 1,
                c => return Err(invalid(c, "looking for beginning of object key string")),
            }
            let key = self.string()?;
            match self.ahead()? {
                b':' => self.at += 1,
                c => return Err(invalid(c, "after object key")),
            }
            let value = self.value()?;
            fields.push((key, value));
            match self.ahead()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Json::Obj(fields));
                }
                c => return Err(invalid(c, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Json, String> {
        let mut items = Vec::new();
        if self.ahead()? == b']' {
            self.at += 1;
            return Ok(Json::Arr(items));
        }
        loop {
            items.push(self.value()?);
            match self.ahead()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Json::Arr(items));
                }
                c => return Err(invalid(c, "after array element")),
            }
        }
    }

    fn literal(&mut self, word: &str, value: Json) -> Result<Json, String> {
        self.at += 1;
        for expected in word.bytes().skip(1) {
            let c = self.next()?;
            if c != expected {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(invalid(c, &context));
            }
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Json, String> {
        let from = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            c => return Err(invalid(c, "in numeric literal")),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let b'+' | b'-' = self.peek()? {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(Json::Num(
            String::from_utf8_lossy(&self.bytes[from..self.at]).into_owned(),
        ))
    }

    fn digit(&mut self, context: &str) -> Result<(), String> {
        match self.next()? {
            b'0'..=b'9' => Ok(()),
            c => Err(invalid(c, context)),
        }
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The rest of a string after its first quote. What is no text becomes U+FFFD.
    fn string(&mut self) -> Result<String, String> {
        let mut out = Vec::new();
        loop {
            let from = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            out.extend_from_slice(&self.bytes[from..self.at]);
            match self.next()? {
                b'"' => return Ok(text(out)),
                b'\\' => self.escape(&mut out)?,
                c => return Err(invalid(c, "in string literal")),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let c = match self.next()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            c @ (b'"' | b'\\' | b'/') => char::from(c),
            b'u' => self.unicode()?,
            c => return Err(invalid(c, "in string escape code")),
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// After `\u`: one or, for a surrogate pair, two escapes.
    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex4()?;
        if let 0xd800..=0xdbff = first
            && self.bytes[self.at..].starts_with(b"\\u")
        {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if let 0xdc00..=0xdfff = second {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..4 {
            let c = self.next()?;
            let digit = char::from(c)
                .to_digit(16)
                .ok_or_else(|| invalid(c, "in \\u hexadecimal character escape"))?;
            code = code * 16 + digit;
        }
        Ok(code)
    }
}

/// Bytes as text, each wrong byte one U+FFFD as Go counts them.
fn text(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(s) => return s,
        Err(e) => e.into_bytes(),
    };
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}

fn invalid(c: u8, context: &str) -> String {
    format!("invalid character {} {context}", quoted(c))
}

/// A byte between quotes, as Go's `quoteChar` shows it.
fn quoted(c: u8) -> String {
    match c {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        b'\\' => r"'\\'".into(),
        0x07 => r"'\a'".into(),
        0x08 => r"'\b'".into(),
        0x0c => r"'\f'".into(),
        b'\n' => r"'\n'".into(),
        b'\r' => r"'\r'".into(),
        b'\t' => r"'\t'".into(),
        0x0b => r"'\v'".into(),
        0..=0x1f | 0x7f => format!(r"'\x{c:02x}'"),
        0x80..=0xa0 | 0xad => format!(r"'\u{c:04x}'"),
        _ => format!("'{}'", char::from(c)),
    }
}
