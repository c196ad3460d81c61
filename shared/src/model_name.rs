//! Ollama's naming rules: which texts name a model, and which name the same one.
//!
//! `[host/][namespace/]model[:tag]`, defaults `registry.ollama.ai`, `library` and `latest`, as in
//! Ollama's `types/model/name.go`; the `:cloud` and `:local` suffixes as in its
//! `internal/modelref`. No I/O: whether a model exists is for the inventory to say. The proxy asks
//! here once a request, the control plane whenever somebody writes a name down.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod key;
mod parts;
mod pattern;
#[cfg(test)]
mod tests;

pub use key::ModelKey;
pub use pattern::{ModelPattern, PatternError};

use parts::Parts;

/// The registry of a name that gives none.
pub const DEFAULT_HOST: &str = "registry.ollama.ai";
/// The namespace of a name that gives none.
pub const DEFAULT_NAMESPACE: &str = "library";
/// The tag of a name that gives none.
pub const DEFAULT_TAG: &str = "latest";

/// Where the client wants a model to run, by the suffix of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// No suffix: whatever the node holds under that name.
    #[default]
    Unspecified,
    /// `:local`: never a cloud model, not even a stub of one.
    Local,
    /// `:cloud` or a tag in `-cloud`: ollama.com runs it, no node needs to hold it.
    Cloud,
}

/// Why a text names no model. The messages are Ollama's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing but whitespace.
    #[error("model is required")]
    Empty,
    /// A part is missing, too long, or holds a character it may not.
    #[error("invalid model name")]
    Invalid,
    /// Two source suffixes in a row; holds the trimmed text.
    #[error("use either :local or :cloud, not both: {0:?}")]
    BothSuffixes(String),
}

/// A valid model name with its defaults filled in and its spelling kept.
///
/// Names are equal when their [keys](ModelName::key) are. A clone costs two reference counts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName {
    /// `host/namespace/model:tag` as spelt; one allocation with `key` when it has no capitals.
    full: Arc<str>,
    key: ModelKey,
    namespace_at: u16,
    model_at: u16,
    tag_at: u16,
}

impl ModelName {
    /// Reads a name without a source suffix: the target of copy, push and create, or a name from
    /// `/api/tags`. So `x:cloud` has the tag `cloud` here.
    ///
    /// Whitespace around it is dropped. A scheme (`https://host/ns/model`) is allowed and no part
    /// of the name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        Parts::split(text).map(Self::from_parts)
    }

    /// Reads a name as inference and show do: its source suffix is cut off and returned.
    ///
    /// `gpt-oss:120b-cloud`, `gpt-oss:120b:cloud` and, in the cloud, `gpt-oss:120b` are one model.
    pub fn parse_with_source(text: &str) -> Result<(Self, Source), NameError> {
        let (base, source) = split_source(text)?;
        Ok((Self::from_parts(Parts::split(&base)?), source))
    }

    /// Reads a name as pull and delete do: `:local` is dropped, and the cloud suffix becomes part
    /// of the tag again, which is how a stub is stored (`x:20b:cloud` is `x:20b-cloud`).
    pub fn parse_for_store(text: &str) -> Result<Self, NameError> {
        let (base, source) = split_source(text)?;
        let stored = match source {
            Source::Unspecified | Source::Local => base,
            Source::Cloud if parts::has_tag(&base) => Cow::Owned(format!("{base}-cloud")),
            Source::Cloud => Cow::Owned(format!("{base}:cloud")),
        };
        Parts::split(&stored).map(Self::from_parts)
    }

    /// The identity of the model.
    pub fn key(&self) -> &ModelKey {
        &self.key
    }

    /// The short form of `/api/tags` and `/api/ps`: the default host and namespace are left out,
    /// the tag never is.
    pub fn display(&self) -> &str {
        &self.full[self.display_start()..]
    }

    /// The whole name, `host/namespace/model:tag`, as spelt.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The registry, with its port if it has one.
    pub fn host(&self) -> &str {
        &self.full[..usize::from(self.namespace_at) - 1]
    }

    /// The namespace, `library` by default.
    pub fn namespace(&self) -> &str {
        &self.full[usize::from(self.namespace_at)..usize::from(self.model_at) - 1]
    }

    /// The model without its tag.
    pub fn model(&self) -> &str {
        &self.full[usize::from(self.model_at)..usize::from(self.tag_at) - 1]
    }

    /// The tag, `latest` by default.
    pub fn tag(&self) -> &str {
        &self.full[usize::from(self.tag_at)..]
    }

    fn from_parts(parts: Parts<'_>) -> Self {
        let mut full = String::with_capacity(parts.len());
        parts.write(&mut full);
        let namespace_at = parts.host.len() + 1;
        let model_at = namespace_at + parts.namespace.len() + 1;
        let tag_at = model_at + parts.model.len() + 1;
        let full = Arc::<str>::from(full);
        Self {
            key: ModelKey::of_full(&full),
            full,
            // The parts' limits add up to 593 bytes.
            namespace_at: namespace_at as u16,
            model_at: model_at as u16,
            tag_at: tag_at as u16,
        }
    }

    /// A foreign host keeps its namespace, even `library` (Ollama's `DisplayShortest`).
    fn display_start(&self) -> usize {
        if !self.host().eq_ignore_ascii_case(DEFAULT_HOST) {
            0
        } else if self.namespace().eq_ignore_ascii_case(DEFAULT_NAMESPACE) {
            usize::from(self.model_at)
        } else {
            usize::from(self.namespace_at)
        }
    }
}

impl PartialEq for ModelName {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for ModelName {}

impl Hash for ModelName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.display())
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelName({:?})", self.display())
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ModelName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.display().to_owned()
    }
}

/// Cuts the source suffix off a name: what is left, and where it shall run.
///
/// What follows the last `:` counts, trimmed and in any case: `cloud` and `local` are cut off with
/// their colon; `-cloud` at its end is cut off unless a `/` stands before it (the colon was a
/// port's, then). A second suffix under the first is an error. What is left is not checked.
pub fn split_source(text: &str) -> Result<(Cow<'_, str>, Source), NameError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let (base, source) = cut_source(text);
    if source != Source::Unspecified && cut_source(&base).1 != Source::Unspecified {
        return Err(NameError::BothSuffixes(text.to_owned()));
    }
    Ok((base, source))
}

/// One step of [`split_source`], Ollama's `parseSourceSuffix`.
fn cut_source(text: &str) -> (Cow<'_, str>, Source) {
    let Some((before, after)) = text.rsplit_once(':') else {
        return (text.into(), Source::Unspecified);
    };
    let suffix = after.trim();
    if suffix.eq_ignore_ascii_case("cloud") {
        return (before.into(), Source::Cloud);
    }
    if suffix.eq_ignore_ascii_case("local") {
        return (before.into(), Source::Local);
    }
    let (tag, end) = suffix
        .split_at_checked(suffix.len().saturating_sub("-cloud".len()))
        .unwrap_or((suffix, ""));
    if !end.eq_ignore_ascii_case("-cloud") || suffix.contains('/') {
        return (text.into(), Source::Unspecified);
    }
    let base = if after.starts_with(tag) {
        Cow::Borrowed(&text[..before.len() + 1 + tag.len()])
    } else {
        Cow::Owned(format!("{before}:{tag}")) // the blanks before the tag are dropped
    };
    (base, Source::Cloud)
}
