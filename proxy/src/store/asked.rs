//! What the body of a change says, as far as it decides where the change goes. Keys count in any
//! case and the last of equal ones wins, as Go reads them; all else in the body is passed over.

use aivonx_shared::model_name::ModelName;
use bytes::Bytes;
use serde_json::json;

use crate::request::members::{Member, members, text};
use crate::request::model_scan::{ModelScan, Outcome, Root};
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
    /// Of create: where the model runs, if not on the node.
    remote_host: String,
    /// Of create, by older clients: text that names the model it starts from, or blobs.
    modelfile: String,
    names_blobs: bool,
}

/// The models of a change as logs show them: valid names in their display form, for what is no
/// name is a client's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Which one is changed; of copy the one that is copied.
    pub(crate) model: String,
    /// What copy calls it.
    pub(crate) to: Option<String>,
}

impl Asked {
    /// Reads a body; `None` where only a node can say what is wrong with it. What follows the
    /// first value is not looked at, as in Ollama.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut scan = ModelScan::json();
        scan.feed(body);
        let found = scan.finish();
        if (found.outcome, found.root) != (Outcome::Complete, Root::Object) {
            return None;
        }
        let mut asked = Self::default();
        members(body).try_for_each(|member| asked.take(&member))?;
        Some(asked)
    }

    /// Whether create may use blobs, which lie on one node only.
    pub(crate) fn uses_blobs(&self) -> bool {
        self.names_blobs || self.hides_models()
    }

    /// Whether a model may be named where it is not looked for.
    pub(crate) fn hides_models(&self) -> bool {
        !self.modelfile.is_empty()
    }

    /// Whether create makes a model that runs on another host, to which the node passes requests on.
    pub(crate) fn is_remote(&self) -> bool {
        !self.remote_host.is_empty()
    }

    /// The model that nodes would have anew, or under another name.
    pub(crate) fn spreads(&self, route: StoreRoute) -> Option<&str> {
        match route {
            StoreRoute::Pull => Some(self.model()),
            StoreRoute::Create => Some(&self.from),
            StoreRoute::Copy => Some(&self.source),
            StoreRoute::Push | StoreRoute::Delete | StoreRoute::Blob => None,
        }
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

    /// The models for logs.
    pub(crate) fn shown(&self, route: StoreRoute) -> Shown {
        let show = |text: &str| {
            let name = match route {
                StoreRoute::Pull | StoreRoute::Delete => ModelName::parse_for_store(text),
                _ => ModelName::parse(text),
            };
            name.map_or_else(|_| String::new(), |name| name.display().to_owned())
        };
        match route {
            StoreRoute::Copy => Shown {
                model: show(&self.source),
                to: Some(show(&self.destination)),
            },
            _ => Shown {
                model: show(self.model()),
                to: None,
            },
        }
    }

    /// Whether the client wants progress lines, where `default` says what nothing means.
    pub(crate) fn streams(&self, default: bool) -> bool {
        self.stream.unwrap_or(default)
    }

    /// The same pull, with progress: whoever waits for its end still has to know that it moves.
    pub(crate) fn pull_body(&self) -> Bytes {
        pull_body(self.model(), self.insecure)
    }

    /// Takes a member in; `None` where a node answers 400 to its value.
    fn take(&mut self, member: &Member<'_>) -> Option<()> {
        let value = member.value;
        let texts = [
            ("model", &mut self.model),
            ("name", &mut self.name),
            ("from", &mut self.from),
            ("source", &mut self.source),
            ("destination", &mut self.destination),
            ("modelfile", &mut self.modelfile),
            ("remote_host", &mut self.remote_host),
        ];
        for (name, slot) in texts {
            if member.is(name) && value != b"null" {
                *slot = text(value)?; // null leaves what was there, as in Go
            }
        }
        if member.is("stream") {
            flag(value, |said| self.stream = said)?;
        } else if member.is("insecure") {
            flag(value, |said| self.insecure = said.unwrap_or(self.insecure))?;
        } else if BLOBS.iter().any(|name| member.is(name)) && value != b"null" {
            self.names_blobs |= members(value).next().is_some();
            return value.starts_with(b"{").then_some(());
        }
        Some(())
    }
}

/// A pull with progress; `insecure`: the registry's certificate is not looked at.
pub(super) fn pull_body(model: &str, insecure: bool) -> Bytes {
    let mut body = json!({ "model": model });
    if insecure {
        body["insecure"] = true.into();
    }
    body["stream"] = true.into();
    body.to_string().into()
}

/// The fields of create that map names to digests of blobs.
const BLOBS: [&str; 3] = ["files", "adapters", "draft_files"];

/// Hands on a boolean, or `None` for null; gives `None` itself for anything else.
fn flag(value: &[u8], take: impl FnOnce(Option<bool>)) -> Option<()> {
    let said = match value {
        b"true" => Some(true),
        b"false" => Some(false),
        b"null" => None,
        _ => return None,
    };
    take(said);
    Some(())
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
        assert!(asked(r#"{"files":{"a":"sha256:1"}}"#).uses_blobs());
        assert!(asked(r#"{"adapters":{"a":"sha256:1"},"files":null}"#).uses_blobs());
        assert!(asked(r#"{"name":"a","modelfile":"FROM @sha256:1"}"#).uses_blobs());
        assert!(!asked(r#"{"from":"a","files":{}}"#).uses_blobs());
    }

    #[test]
    fn logs_show_valid_names_only() {
        let copy = asked(r#"{"source":"A","destination":"ns/b:1"}"#).shown(StoreRoute::Copy);
        assert_eq!(
            (&*copy.model, copy.to.as_deref()),
            ("A:latest", Some("ns/b:1"))
        );
        let pull = |name: &str| asked(&format!("{{\"model\":\"{name}\"}}")).shown(StoreRoute::Pull);
        assert_eq!(pull("tiny").model, "tiny:latest");
        for none in ["", "a//b", "secret text of a client"] {
            assert_eq!(pull(none), Shown::default(), "{none}");
        }
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
