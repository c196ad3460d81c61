//! Patterns of model names: which models a node offers or a key may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::parts::has_tag;
use super::{DEFAULT_TAG, ModelKey, ModelName};

/// A glob over model names, whatever their case: `*` stands for any run of characters (`/` and
/// `:` too), `?` for one.
///
/// | pattern | matches |
/// |---|---|
/// | `llama3` | `llama3:latest`: without a wildcard it is a name, and Ollama's defaults hold |
/// | `llama3:*` | every tag of `llama3` |
/// | `llama*` | every model that starts so, with every tag: a `*` at the end runs over the tag |
/// | `*/coder` | `coder:latest` of everybody: no tag and no `*` at the end means `latest` |
/// | `alice/*` | all of `alice` |
/// | `*` | everything |
///
/// It is held against the name with its defaults (`registry.ollama.ai/library/llama3:latest`),
/// without the default host (`library/llama3:latest`) and as shown (`llama3:latest`); one match is
/// enough. Source suffixes mean nothing here: a stored cloud stub has `cloud` in its tag.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelPattern {
    /// As written, for showing it.
    text: String,
    rule: Rule,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing but whitespace.
    #[error("the pattern is empty: write `*` for every model")]
    Empty,
    /// It can never match, because no model may be called so.
    #[error(
        "`{0}` matches no model: a name has letters, digits and `_-.:/`, a pattern `*` and `?` besides"
    )]
    Invalid(String),
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Rule {
    Name(ModelKey),
    Glob(Box<str>),
}

impl ModelPattern {
    /// Reads a pattern; whitespace around it is dropped.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let invalid = || PatternError::Invalid(text.to_owned());
        let rule = if text.contains(['*', '?']) {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/*?".contains(&byte);
            if !text.bytes().all(allowed) {
                return Err(invalid());
            }
            let mut glob = text.to_ascii_lowercase();
            if !has_tag(text) && !text.ends_with('*') {
                glob = format!("{glob}:{DEFAULT_TAG}");
            }
            Rule::Glob(glob.into())
        } else {
            let name = ModelName::parse(text).map_err(|_| invalid())?;
            Rule::Name(name.key().clone())
        };
        Ok(Self {
            text: text.to_owned(),
            rule,
        })
    }

    /// Whether the model is one of those meant.
    pub fn matches(&self, model: &ModelKey) -> bool {
        match &self.rule {
            Rule::Name(key) => key == model,
            Rule::Glob(glob) => model
                .forms()
                .iter()
                .any(|form| glob_matches(glob.as_bytes(), form.as_bytes())),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelPattern({:?})", self.text)
    }
}

impl FromStr for ModelPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ModelPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::parse(&text)
    }
}

impl From<ModelPattern> for String {
    fn from(pattern: ModelPattern) -> Self {
        pattern.text
    }
}

/// Only the last `*` is ever tried again, so the cost is at most `glob × text`: no pattern can
/// make it explode.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at + 1, seen));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((after, from)) = star else {
                    return false;
                };
                star = Some((after, from + 1));
                at = after;
                seen = from + 1;
            }
        }
    }
    glob[at..].iter().all(|&byte| byte == b'*')
}
