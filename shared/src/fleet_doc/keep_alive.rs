//! `keep_alive: [{models, min, max}]` of a fleet document: how long a client may ask a node to keep
//! a model loaded.

use std::time::Duration;

use super::read_patterns;
use crate::config::{Reader, Span};
use crate::model_name::{ModelKey, ModelPattern};

/// One rule; of several the first that names the model counts.
#[derive(Debug, Clone, PartialEq)]
pub struct KeepAliveRule {
    /// Which models it is for; an empty list means every model.
    pub models: Vec<ModelPattern>,
    /// What a client's `keep_alive` is held to.
    pub bounds: Bounds,
}

/// The range of a client's `keep_alive`; for ever is more than any `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// At least this long.
    pub min: Option<Duration>,
    /// At most this long.
    pub max: Option<Duration>,
}

impl KeepAliveRule {
    /// Whether the rule is for this model.
    pub fn names(&self, model: &ModelKey) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.matches(model))
    }
}

pub(super) fn read(root: &Reader<'_>) -> Vec<KeepAliveRule> {
    root.list("keep_alive").iter().map(read_one).collect()
}

fn read_one(at: &Reader<'_>) -> KeepAliveRule {
    let span = |key| at.get::<Span>(key).map(|Span(duration)| duration);
    let rule = KeepAliveRule {
        models: read_patterns(at, "models"),
        bounds: Bounds {
            min: span("min"),
            max: span("max"),
        },
    };
    match (rule.bounds.min, rule.bounds.max) {
        (None, None) if at.value("min").is_none() && at.value("max").is_none() => {
            at.complain_here("needs a `min`, a `max` or both");
        }
        (Some(min), Some(max)) if min > max => {
            at.complain("min", "must not be more than `max`");
        }
        _ => {}
    }
    at.finish();
    rule
}

#[cfg(test)]
mod tests {
    use super::super::FleetDoc;
    use super::*;

    #[test]
    fn the_first_rule_that_names_a_model_counts() {
        let text = "nodes: []\nkeep_alive:\n  - {models: [\"qwen3:*\"], min: 0s, max: 1h}\n  - {max: 5m}\n";
        let doc = FleetDoc::from_yaml(text).unwrap();
        let bounds = |model: &str| doc.keep_alive_of(&ModelKey::parse(model).unwrap());
        assert_eq!(
            bounds("qwen3:8b"),
            Some(Bounds {
                min: Some(Duration::ZERO),
                max: Some(Duration::from_secs(3600)),
            })
        );
        assert_eq!(
            bounds("llama3"),
            Some(Bounds {
                min: None,
                max: Some(Duration::from_secs(300)),
            })
        );
    }

    #[test]
    fn what_a_rule_may_not_be_is_said_with_its_line() {
        for (rule, problem) in [
            (
                "{}",
                "line 3: keep_alive[0]: needs a `min`, a `max` or both",
            ),
            (
                "{min: 2h, max: 1h}",
                "line 3: keep_alive[0].min: must not be more",
            ),
            (
                "{max: soon}",
                "line 3: keep_alive[0].max: must be a duration",
            ),
            (
                "{max: 1h, models: ['a b']}",
                "line 3: keep_alive[0].models: `a b`",
            ),
            (
                "{max: 1h, node: x}",
                "line 3: keep_alive[0].node: unknown key",
            ),
        ] {
            let text = format!("nodes: []\nkeep_alive:\n  - {rule}\n");
            let problems = FleetDoc::from_yaml(&text).unwrap_err();
            assert!(problems.to_string().starts_with(problem), "{problems}");
        }
    }
}
