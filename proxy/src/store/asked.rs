//! What the body of a change says, as far as it decides where the change goes. Keys count in any
//! case and the last of equal ones wins, as Go reads them; all else in the body is passed over.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::json;

use crate::request::route::StoreRoute;

/// The fields that matter, as a client wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    model: String,
    name: String,
    /// Of create: the model it starts from.
    pub(crate) from: String,
    /// Of copy.
    pub(crate) source: String,
    /// Of copy.
    pub(crate) destination: String,
    stream: Option<bool>,
    insecure: bool,
    /// Whether create may name blobs, which lie on one node only: in its lists of files, or in the
    /// `modelfile` of older clients and nodes.
    pub(crate) uses_blobs: bool,
}

impl Asked {
    /// Reads a body; `None` where only a node can say what is wrong with it. What follows the
    /// first value is not looked at, as in Ollama.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        Self::deserialize(&mut serde_json::Deserializer::from_slice(body)).ok()
    }

    /// The model by `model`, else by the older `name`.
    pub(crate) fn model(&self) -> &str {
        if self.model.is_empty() {
            &self.name
        } else {
            &self.model
        }
    }

    /// Every model that it names, as far as `route` reads it.
    pub(crate) fn models(&self, route: StoreRoute) -> Vec<&str> {
        let from = (!self.from.is_empty()).then_some(&*self.from);
        match route {
            StoreRoute::Copy => vec![&self.source, &self.destination],
            StoreRoute::Create => [Some(self.model()), from].into_iter().flatten().collect(),
            StoreRoute::Blob => Vec::new(),
            StoreRoute::Pull | StoreRoute::Push | StoreRoute::Delete => vec![self.model()],
        }
    }

    /// Whether the client wants progress lines, where `default` says what nothing means.
    pub(crate) fn streams(&self, default: bool) -> bool {
        self.stream.unwrap_or(default)
    }

    /// The same pull, with progress: whoever waits for its end still has to know that it moves.
    pub(crate) fn pull_body(&self) -> Bytes {
        let mut body = json!({ "model": self.model() });
        if self.insecure {
            body["insecure"] = true.into();
        }
        body["stream"] = true.into();
        body.to_string().into()
    }

    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        // null leaves what was there, as in Go
        fn text<'de, A: MapAccess<'de>>(slot: &mut String, map: &mut A) -> Result<(), A::Error> {
            if let Some(text) = map.next_value::<Option<String>>()? {
                *slot = text;
            }
            Ok(())
        }
        match key {
            "model" => text(&mut self.model, map)?,
            "name" => text(&mut self.name, map)?,
            "from" => text(&mut self.from, map)?,
            "source" => text(&mut self.source, map)?,
            "destination" => text(&mut self.destination, map)?,
            "stream" => self.stream = map.next_value()?,
            "insecure" => {
                self.insecure = map.next_value::<Option<bool>>()?.unwrap_or(self.insecure);
            }
            "files" | "adapters" | "draft_files" => {
                let blobs = map.next_value::<Option<Blobs>>()?;
                self.uses_blobs |= blobs.is_some_and(|blobs| blobs.any);
            }
            "modelfile" => {
                let text = map.next_value::<Option<String>>()?;
                self.uses_blobs |= text.is_some_and(|text| !text.is_empty());
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A key as Go compares keys: in any case, with the two letters outside ASCII that fold to one in it
/// (U+017F to s, U+212A to k).
fn folded(key: &str) -> String {
    let fold = |letter: char| match letter {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

/// Whether a mapping of names to digests holds any.
struct Blobs {
    any: bool,
}

impl<'de> Deserialize<'de> for Blobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Blobs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and digests")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blobs, A::Error> {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Blobs { any })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Asked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Asked, A::Error> {
                let mut asked = Asked::default();
                while let Some(key) = map.next_key::<String>()? {
                    asked.take(&folded(&key), &mut map)?;
                }
                Ok(asked)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Asked {
        Asked::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn keys_are_read_as_go_reads_them() {
        let pull =
            asked(r#"{"Name":"old","x":[{"model":"no"}],"MODEL":"a","model":null} trailing"#);
        assert_eq!((pull.model(), pull.streams(true)), ("a", true));
        assert_eq!(asked(r#"{"name":"old","model":""}"#).model(), "old");
        assert!(!asked(r#"{"stream":true,"stream":false}"#).streams(true));
        let copy = asked("{\"source\":\"x\",\"\u{17F}ource\":\"a\",\"de\u{17F}tination\":\"b\"}");
        assert_eq!(
            (copy.source.as_str(), copy.destination.as_str()),
            ("a", "b")
        );
    }

    #[test]
    fn blobs_are_seen_and_an_empty_list_is_none() {
        assert!(asked(r#"{"files":{"a":"sha256:1"}}"#).uses_blobs);
        assert!(asked(r#"{"adapters":{"a":"sha256:1"},"files":null}"#).uses_blobs);
        assert!(asked(r#"{"name":"a","modelfile":"FROM @sha256:1"}"#).uses_blobs);
        assert!(!asked(r#"{"from":"a","files":{}}"#).uses_blobs);
    }

    #[test]
    fn what_is_wrong_is_left_to_a_node() {
        for body in [
            "",
            "hello",
            "[]",
            "null",
            "5",
            r#"{"model":5}"#,
            r#"{"stream":"no"}"#,
            r#"{"a":1"#,
        ] {
            assert_eq!(Asked::read(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_pull_goes_on_with_progress() {
        let pull = asked(r#"{"name":"a","insecure":true,"stream":false,"username":"u"}"#);
        assert_eq!(
            pull.pull_body(),
            r#"{"model":"a","insecure":true,"stream":true}"#
        );
    }
}
