//! A text that rows hold and nobody may see: hashes, digests, sealed secrets.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A hidden text. Printed or serialized it is `***`, so that neither a log, an answer nor an audit row
/// can give it away; only `reveal` does.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Hidden(String);

impl Hidden {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}
