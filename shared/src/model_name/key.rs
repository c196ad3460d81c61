//! The identity of a model: what maps are keyed by.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::parts::Parts;
use super::{DEFAULT_HOST, DEFAULT_NAMESPACE, ModelName, NameError, Source, split_source};

/// `host/namespace/model:tag` in lower case, defaults filled in: equal for every spelling of one
/// name. `hf.co/u/r:q4` and `huggingface.co/u/r:q4` stay two, as they do in Ollama.
///
/// Written in its short form it reads back as itself, so it crosses between the planes as
/// [`ModelKey::display`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelKey(Arc<str>);

impl ModelKey {
    /// The key of a name without a source suffix, as [`ModelName::parse`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        ModelName::parse(text).map(|name| name.key().clone())
    }

    /// The fast path of a request: writes the key of `text` into `scratch`, whose memory is used
    /// again, and gives it back for a look-up by `&str`, with the source as
    /// [`ModelName::parse_with_source`]. On an error `scratch` is empty.
    pub fn of<'a>(text: &str, scratch: &'a mut String) -> Result<(&'a str, Source), NameError> {
        scratch.clear();
        let (base, source) = split_source(text)?;
        Parts::split(&base)?.write(scratch);
        scratch.make_ascii_lowercase();
        Ok((scratch, source))
    }

    /// The key itself, `host/namespace/model:tag`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The short form: default host and namespace left out, in lower case.
    pub fn display(&self) -> &str {
        let full = self.as_str();
        match strip(full, DEFAULT_HOST) {
            Some(rest) => strip(rest, DEFAULT_NAMESPACE).unwrap_or(rest),
            None => full,
        }
    }

    /// The forms a pattern is held against: the key, without the default host, and the short form.
    pub(super) fn forms(&self) -> [&str; 3] {
        let full = self.as_str();
        [
            full,
            strip(full, DEFAULT_HOST).unwrap_or(full),
            self.display(),
        ]
    }

    /// From a whole, valid name; shares it when it has no capitals.
    pub(super) fn of_full(full: &Arc<str>) -> Self {
        if full.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Self(full.to_ascii_lowercase().into())
        } else {
            Self(Arc::clone(full))
        }
    }
}

impl Deref for ModelKey {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ModelKey {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// So that a map of keys is asked with what [`ModelKey::of`] wrote.
impl Borrow<str> for ModelKey {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelKey({:?})", self.display())
    }
}

impl From<&ModelName> for ModelKey {
    fn from(name: &ModelName) -> Self {
        name.key().clone()
    }
}

impl TryFrom<String> for ModelKey {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ModelKey> for String {
    fn from(key: ModelKey) -> Self {
        key.display().to_owned()
    }
}

/// What follows `part/`.
fn strip<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    text.strip_prefix(part)?.strip_prefix('/')
}
