//! Values like `form-data; name="model"`, read as Go's `mime.ParseMediaType` does.

/// A media type or disposition with its parameters.
#[derive(Debug)]
pub(super) struct MediaType {
    /// In lower case, trimmed.
    pub(super) kind: String,
    /// Names in lower case; each stands here once.
    params: Vec<(String, Vec<u8>)>,
}

impl MediaType {
    /// Reads a header's value; `None` where Go reports an error. Whitespace is ASCII's only.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let base = value.split(|&byte| byte == b';').next()?;
        let kind = std::str::from_utf8(base).ok()?.trim().to_ascii_lowercase();
        let mut parts = kind.splitn(2, '/');
        if !parts.all(|part| !part.is_empty() && part.bytes().all(is_token)) {
            return None;
        }
        let mut params: Vec<(String, Vec<u8>)> = Vec::new();
        let mut rest = trim_start(&value[base.len()..]);
        while !rest.is_empty() && rest.trim_ascii() != b";" {
            let (name, value, after) = param(rest)?;
            match params.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if *known != value => return None,
                Some(_) => {}
                None => params.push((name, value)),
            }
            rest = trim_start(after);
        }
        Some(Self { kind, params })
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.params.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Whether `name*`, `name*0` and the like occur (RFC 2231), which are not decoded here.
    pub(super) fn has_extended(&self, name: &str) -> bool {
        self.params
            .iter()
            .any(|(known, _)| known.split_once('*').is_some_and(|(base, _)| base == name))
    }
}

/// The boundary of a `multipart/form-data` Content-Type.
pub(super) fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let parsed = MediaType::parse(content_type)?;
    if parsed.kind != "multipart/form-data" || parsed.has_extended("boundary") {
        return None;
    }
    let boundary = parsed.get("boundary")?;
    (!boundary.is_empty()).then(|| boundary.to_vec())
}

/// `; name=value` at the start of `text`, and what follows.
fn param(text: &[u8]) -> Option<(String, Vec<u8>, &[u8])> {
    let rest = trim_start(text.strip_prefix(b";")?);
    let (name, rest) = token(rest);
    if name.is_empty() {
        return None;
    }
    let rest = trim_start(trim_start(rest).strip_prefix(b"=")?);
    let (value, rest) = match rest.strip_prefix(b"\"") {
        Some(inside) => quoted(inside)?,
        None => match token(rest) {
            ([], _) => return None,
            (value, rest) => (value.to_vec(), rest),
        },
    };
    Some((
        String::from_utf8_lossy(name).to_ascii_lowercase(),
        value,
        rest,
    ))
}

/// What stands before the closing quote. A backslash escapes only a special character: older
/// browsers send whole Windows paths.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some((value, after)),
            [b'\\', special, after @ ..] if br#"()<>@,;:\"/[]?="#.contains(special) => {
                value.push(*special);
                after
            }
            [b'\r' | b'\n', ..] | [] => return None,
            [byte, after @ ..] => {
                value.push(*byte);
                after
            }
        };
    }
}

fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| !is_token(byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// RFC 9110 §5.6.2, as header names and parameters have it.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn trim_start(text: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !space(byte));
    &text[start.unwrap_or(text.len())..]
}
