//! What is changed in a body that is in hand before a node gets it: the model of an alias, a
//! `keep_alive` beyond its bounds, the wish for the counts of a stream. All other bytes stay.

use std::ops::Range;
use std::sync::Arc;

use aivonx_shared::fleet_doc::Bounds;
use bytes::Bytes;

use super::intent::is_unload;
use super::keep_alive::KeepAlive;
use super::members::members;
use super::model_scan::{Field, Found};
use super::route::NodeRoute;

/// Put in at the end of the root object. Go merges it with whatever `stream_options` came before:
/// the last one counts, field by field.
const ASK_FOR_USAGE: &str = r#","stream_options":{"include_usage":true}"#;

/// What a body shall say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The model, in place of the alias that is there. A valid name: nothing in it needs escaping.
    pub(crate) model: Option<Arc<str>>,
    /// The bounds of `keep_alive`.
    pub(crate) keep_alive: Option<Bounds>,
    /// Ask for the counts of a stream. The root must be an object that holds something.
    pub(crate) usage: bool,
}

impl Wanted {
    /// Whether nothing is to be changed.
    pub(crate) fn is_nothing(&self) -> bool {
        self.model.is_none() && self.keep_alive.is_none() && !self.usage
    }
}

/// Changes of one body, in the order of their places, which do not overlap.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Splices(Vec<(Range<usize>, String)>);

/// Members that the scan counted and that do not stand whole in the part of the body in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A `model`, or what stands for it.
    Model,
    /// A `keep_alive`.
    KeepAlive,
}

impl Splices {
    /// Finds what has to change in `body`, of which `found` speaks. Where `whole` is false it is
    /// the beginning of a body.
    pub(crate) fn plan(
        wanted: &Wanted,
        found: &Found,
        route: NodeRoute,
        body: &[u8],
        whole: bool,
    ) -> Result<Self, Cut> {
        let mut splices = Self::default();
        if let (Some(model), NodeRoute::V1Transcriptions) = (&wanted.model, route) {
            let (from, to) = found.model_at.ok_or(Cut::Model)?;
            splices.put(from as usize..to as usize, model.to_string());
            return Ok(splices);
        }
        if wanted.model.is_some() || wanted.keep_alive.is_some() {
            splices.walk(wanted, found, route, body, whole)?;
        }
        if let (true, Some(end)) = (wanted.usage, found.end) {
            let brace = end as usize - 1;
            splices.put(brace..brace, ASK_FOR_USAGE.to_owned());
        }
        Ok(splices)
    }

    /// Rewrites each `model` (all of them: only the last counts for Go, but a client may have a
    /// proxy of its own that thinks otherwise) and each `keep_alive` beyond its bounds.
    fn walk(
        &mut self,
        wanted: &Wanted,
        found: &Found,
        route: NodeRoute,
        body: &[u8],
        whole: bool,
    ) -> Result<(), Cut> {
        let by_name = !matches!(&found.model, Field::Text(model) if !model.is_empty());
        let field = if by_name { "name" } else { "model" };
        let bounds = wanted
            .keep_alive
            .filter(|_| !(whole && is_unload(route, body)));
        let (mut models, mut keep_alives) = (0, 0);
        for member in members(body) {
            if member.is("model") {
                models += 1;
            }
            if let Some(model) = wanted.model.as_ref().filter(|_| member.is(field)) {
                if member.value.starts_with(b"\"") {
                    self.put(member.at, format!("\"{model}\""));
                }
            } else if member.is("keep_alive") {
                keep_alives += 1;
                let asked = bounds.and_then(|bounds| {
                    KeepAlive::read(member.value).and_then(|asked| asked.held_to(bounds))
                });
                if let Some(bound) = asked {
                    self.put(member.at, bound);
                }
            }
        }
        // of a whole body both counts are right
        if wanted.model.is_some() && (models != found.given.model || (by_name && !whole)) {
            return Err(Cut::Model);
        }
        if wanted.keep_alive.is_some() && keep_alives != found.given.keep_alive {
            return Err(Cut::KeepAlive);
        }
        Ok(())
    }

    fn put(&mut self, at: Range<usize>, text: String) {
        self.0.push((at, text));
    }

    /// Whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The body with the changes made.
    pub(crate) fn apply(&self, body: &[u8]) -> Bytes {
        let more: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let mut edited = Vec::with_capacity(body.len() + more);
        let mut at = 0;
        for (place, text) in &self.0 {
            edited.extend_from_slice(&body[at..place.start]);
            edited.extend_from_slice(text.as_bytes());
            at = place.end;
        }
        edited.extend_from_slice(&body[at..]);
        edited.into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::model_scan::ModelScan;
    use super::*;

    fn scan(body: &[u8]) -> Found {
        let mut scan = ModelScan::json();
        scan.feed(body);
        scan.finish()
    }

    fn edit(wanted: &Wanted, route: NodeRoute, body: &str) -> String {
        let found = scan(body.as_bytes());
        let splices = Splices::plan(wanted, &found, route, body.as_bytes(), true).unwrap();
        String::from_utf8(splices.apply(body.as_bytes()).to_vec()).unwrap()
    }

    fn model() -> Wanted {
        Wanted {
            model: Some("qwen3:8b".into()),
            ..Wanted::default()
        }
    }

    #[test]
    fn the_model_is_rewritten_wherever_it_stands_and_nothing_else_is() {
        let edit = |body| edit(&model(), NodeRoute::Chat, body);
        for (body, edited) in [
            (
                r#"{"model":"a","messages":[{"model":"a"}]}"#,
                r#"{"model":"qwen3:8b","messages":[{"model":"a"}]}"#,
            ),
            (
                " {\n \"x\": 1.50, \"model\" : \"a\" } trailing",
                " {\n \"x\": 1.50, \"model\" : \"qwen3:8b\" } trailing",
            ),
            (
                r#"{"MODEL":"b","m\u006fdel":"\u0061","model":null,"name":"a"}"#,
                r#"{"MODEL":"qwen3:8b","m\u006fdel":"qwen3:8b","model":null,"name":"a"}"#,
            ),
        ] {
            assert_eq!(edit(body), edited);
        }
    }

    #[test]
    fn a_name_that_stands_for_the_model_is_rewritten() {
        let edit = |body| edit(&model(), NodeRoute::Show, body);
        assert_eq!(edit(r#"{"name":"a"}"#), r#"{"name":"qwen3:8b"}"#);
        assert_eq!(
            edit(r#"{"model":"","Name":"a"}"#),
            r#"{"model":"","Name":"qwen3:8b"}"#
        );
    }

    #[test]
    fn usage_is_asked_for_at_the_end() {
        let wanted = || Wanted {
            usage: true,
            ..Wanted::default()
        };
        let edit = |body: &str| edit(&wanted(), NodeRoute::V1Chat, body);
        assert_eq!(
            edit(r#"{"stream":true} {"x":1}"#),
            r#"{"stream":true,"stream_options":{"include_usage":true}} {"x":1}"#
        );
        for options in [
            "null",
            "{}",
            r#"{"include_usage":false,"x":1}"#,
            r#"{"include_usage":null}"#,
        ] {
            let body = format!(r#"{{"stream_options":{options},"stream":true}}"#);
            assert_ne!(scan(body.as_bytes()).include_usage, Some(true));
            assert_eq!(scan(edit(&body).as_bytes()).include_usage, Some(true));
        }
    }

    #[test]
    fn keep_alive_is_held_to_its_bounds() {
        let wanted = || Wanted {
            keep_alive: Some(Bounds {
                min: Some(Duration::from_secs(60)),
                max: Some(Duration::from_secs(3600)),
            }),
            ..Wanted::default()
        };
        let edit = |body| edit(&wanted(), NodeRoute::Generate, body);
        for (body, edited) in [
            (
                r#"{"keep_alive":-1,"prompt":"x"}"#,
                r#"{"keep_alive":3600,"prompt":"x"}"#,
            ),
            (
                r#"{"Keep_Alive":"2h","keep_alive":1}"#,
                r#"{"Keep_Alive":3600,"keep_alive":60}"#,
            ),
            (
                r#"{"keep_alive":0,"prompt":"x"}"#,
                r#"{"keep_alive":60,"prompt":"x"}"#,
            ),
        ] {
            assert_eq!(edit(body), edited);
        }
        for kept in [
            r#"{"keep_alive":"5m","prompt":"x"}"#,
            r#"{"keep_alive":"5","prompt":"x"}"#,
            r#"{"keep_alive":null,"prompt":"x"}"#,
            r#"{"keep_alive":0}"#, // it unloads
        ] {
            assert_eq!(edit(kept), kept);
        }
    }

    #[test]
    fn what_is_not_whole_in_a_part_of_a_body_is_told() {
        let bounds = Wanted {
            model: Some("b".into()),
            keep_alive: Some(Bounds::default()),
            usage: false,
        };
        for (part, cut) in [
            (r#"{"model":"a","prompt":"x"#, None),
            (r#"{"model":"a","model":"#, Some(Cut::Model)),
            (r#"{"model":"a","model":"a"#, Some(Cut::Model)),
            (r#"{"model":"a","keep_alive":1"#, Some(Cut::KeepAlive)),
            (r#"{"name":"a","x":"#, Some(Cut::Model)),
        ] {
            let found = scan(part.as_bytes());
            let planned =
                Splices::plan(&bounds, &found, NodeRoute::Generate, part.as_bytes(), false);
            assert_eq!(planned.err(), cut, "{part}");
        }
    }

    proptest! {
        /// Whatever members there are: the scan finds the model that was put in, all else is the
        /// same to a parser.
        #[test]
        fn only_the_model_changes(
            members in proptest::collection::vec(("[a-c]{1,2}|model|Model", "[a-z\"{}]{0,5}"), 1..6),
            usage: bool,
        ) {
            let text: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("\"{key}\":{}", serde_json::Value::from(value.as_str())))
                .collect();
            let body = format!("{{{}}}", text.join(", "));
            let found = scan(body.as_bytes());
            let wanted = Wanted { usage, ..model() };
            let named = found.model.text().is_some_and(|model| !model.is_empty());
            let edited = edit(&wanted, NodeRoute::V1Chat, &body);
            let after = scan(edited.as_bytes());
            if named {
                prop_assert_eq!(after.model.text(), Some("qwen3:8b"));
            }
            prop_assert_eq!(after.include_usage, usage.then_some(true));
            let others = |text: &str| {
                let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
                for key in ["model", "Model", "stream_options"] {
                    map.remove(key);
                }
                map
            };
            prop_assert_eq!(others(&edited), others(&body));
        }
    }
}
