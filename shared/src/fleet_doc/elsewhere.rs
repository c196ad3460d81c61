//! A fleet document that somebody sent, to be taken into a database: bounded, without files and
//! variables of this machine, and also as it was written, value by value, since a database keeps
//! `600/m` and not what it means.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{FleetDoc, Outside, read_doc};
use crate::config::{Lines, Problem, Problems, Reader, parse_yaml, refuse_endless, yaml_of};
use crate::sealed::SealKey;

impl FleetDoc {
    /// Reads a document in YAML or JSON, with what is sealed in it opened by `key`, and what it calls
    /// `{stored: NAME}` taken from `stored`, sealed texts by their names. Gives it twice: validated, and as
    /// it was written. Items of lists stand at the same place in both.
    pub fn from_elsewhere(
        text: &str,
        key: SealKey,
        stored: BTreeMap<String, String>,
    ) -> Result<(Self, Value), Problems> {
        refuse_endless(text)?;
        let value = parse_yaml(text)?;
        let lines = Lines::of(text);
        let outside = Outside::sealed_only(Some(key)).with_stored(stored);
        let root = Reader::root(&value).with_outside(Some(&outside));
        let doc = read_doc(&root);
        if let Some(problems) = root.into_problems(&lines) {
            return Err(problems);
        }
        let written = serde_json::to_value(&value).map_err(|error| {
            Problems::of(vec![Problem {
                key: String::new(),
                line: None,
                message: format!("holds what JSON has no place for: {error}"),
            }])
        })?;
        Ok((doc, written))
    }
}

/// A document in JSON as YAML, the form of `fleet.yaml`; `None` where it is no JSON.
pub fn as_yaml(json: &str) -> Option<String> {
    yaml_of(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::seal;

    fn key(byte: &str) -> SealKey {
        SealKey::parse(&byte.repeat(32)).unwrap()
    }

    #[test]
    fn a_document_is_given_as_it_is_meant_and_as_it_is_written() {
        let sealed = seal(&key("07"), "t0ken").unwrap();
        let text = format!(
            "nodes: [{{name: a, url: \"http://h:1\", bearer_token: {{sealed: {sealed}}}}}]\n\
             keys: [{{id: k, sha256: {}, rate: 60/m}}]\n",
            "0a".repeat(32)
        );
        let (doc, written) = FleetDoc::from_elsewhere(&text, key("07"), BTreeMap::new()).unwrap();
        let token = doc.nodes[0].access.bearer_token.as_ref().unwrap();
        assert_eq!(token.text(), Some("t0ken"));
        assert_eq!(written["keys"][0]["rate"], "60/m");
        let again = as_yaml(&written.to_string()).unwrap();
        assert_eq!(
            FleetDoc::from_elsewhere(&again, key("07"), BTreeMap::new())
                .unwrap()
                .1,
            written
        );
    }

    #[test]
    fn what_only_another_machine_can_read_is_told_and_not_read() {
        let sealed = seal(&key("07"), "t0ken").unwrap();
        let text = format!(
            "nodes:\n  - {{name: a, url: \"http://h:1\", bearer_token: {{file: /etc/hostname}}}}\n  \
             - {{name: b, url: \"http://h:1\", headers: {{x-a: {{env: HOME}}, x-b: {{sealed: {sealed}}}}}}}\n"
        );
        let problems = FleetDoc::from_elsewhere(&text, key("08"), BTreeMap::new()).unwrap_err();
        let seen: Vec<_> = problems
            .iter()
            .map(|it| (it.key.as_str(), it.line))
            .collect();
        assert_eq!(
            seen,
            [
                ("nodes[0].bearer_token", Some(2)),
                ("nodes[1].headers.x-a", Some(3)),
                ("nodes[1].headers.x-b", Some(3)),
            ],
            "{problems}"
        );
        assert!(!problems.to_string().contains(&sealed));
    }

    #[test]
    fn what_is_stored_is_looked_up_where_there_is_a_store() {
        let sealed = seal(&key("07"), "t0ken").unwrap();
        let stored = BTreeMap::from([("a/bearer_token".to_owned(), sealed)]);
        let text = |name| {
            format!("nodes: [{{name: b, url: \"http://h:1\", bearer_token: {{stored: {name}}}}}]")
        };
        let (doc, _) =
            FleetDoc::from_elsewhere(&text("a/bearer_token"), key("07"), stored.clone()).unwrap();
        let token = doc.nodes[0].access.bearer_token.as_ref().unwrap();
        assert_eq!(token.text(), Some("t0ken"));

        let unknown = FleetDoc::from_elsewhere(&text("c/bearer_token"), key("07"), stored);
        let said = unknown.unwrap_err().to_string();
        assert!(
            said.contains("no secret `c/bearer_token` is stored here"),
            "{said}"
        );
        let in_a_file =
            FleetDoc::from_yaml_with(&text("a/bearer_token"), &Outside::new(".", |_| None));
        let said = in_a_file.unwrap_err().to_string();
        assert!(
            said.contains("only the control plane which exported it"),
            "{said}"
        );
    }
}
