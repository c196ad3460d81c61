//! Pulls: a draft, as the predecessor's body or as a job's, becomes a model and the nodes it is for.

use aivonx_shared::fleet_doc::ModelRules;
use aivonx_shared::model_name::{ModelName, ModelPattern};
use serde::Deserialize;

use super::Invalid;

/// Most nodes that one job may name.
const MOST_NODES: usize = 1000;

/// The predecessor's body of `POST /api/proxy/pull`.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullDraft {
    /// The model, as `llama3` or `registry/namespace/model:tag`.
    pub model: Option<String>,
    /// This node alone; without it every enabled one.
    pub node_id: Option<i64>,
    /// Do not look at the registry's certificate.
    pub insecure: Option<bool>,
    /// Answer at once; the pull goes on.
    pub stream: Option<bool>,
    /// `false` answers 202 at once, as does `Prefer: respond-async`.
    pub wait: Option<bool>,
}

/// The body of `POST /api/proxy/jobs`.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobDraft {
    /// `pull`, which it is without it.
    pub kind: Option<String>,
    /// The model, as `llama3` or `registry/namespace/model:tag`.
    pub model: Option<String>,
    /// These nodes alone; without it every enabled one.
    #[schema(min_items = 1, max_items = 1000)]
    pub node_ids: Option<Vec<i64>>,
    /// Do not look at the registry's certificate.
    pub insecure: Option<bool>,
}

/// A pull to queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPull {
    /// As it was written, without the blanks around it.
    pub model: String,
    /// These nodes, each once; `None`: every enabled one.
    pub node_ids: Option<Vec<i64>>,
    /// Whether the registry's certificate is not looked at.
    pub insecure: bool,
}

impl PullDraft {
    /// What it asks for; or what is wrong with it.
    pub fn create(&self) -> Result<NewPull, Invalid> {
        let mut invalid = Invalid::default();
        let model = judge_model(self.model.as_deref(), &mut invalid);
        invalid.or_ok()?;
        Ok(NewPull {
            model,
            node_ids: self.node_id.map(|id| vec![id]),
            insecure: self.insecure.unwrap_or(false),
        })
    }
}

impl JobDraft {
    /// What it asks for; or what is wrong with it.
    pub fn create(&self) -> Result<NewPull, Invalid> {
        let mut invalid = Invalid::default();
        if self.kind.as_deref().is_some_and(|kind| kind != "pull") {
            invalid.add("kind", "must be pull");
        }
        let model = judge_model(self.model.as_deref(), &mut invalid);
        let mut node_ids = self.node_ids.clone();
        if let Some(ids) = &mut node_ids {
            if ids.is_empty() || ids.len() > MOST_NODES {
                let words = format!("must name 1 to {MOST_NODES} nodes; leave it out for all");
                invalid.add("node_ids", words);
            }
            ids.sort_unstable();
            ids.dedup();
        }
        invalid.or_ok()?;
        Ok(NewPull {
            model,
            node_ids,
            insecure: self.insecure.unwrap_or(false),
        })
    }
}

/// Whether a node's `models` rules let it have a model. Both were judged when they were written: what cannot
/// be read any more bars nothing.
pub fn rules_allow(model: &str, include: &[String], exclude: &[String]) -> bool {
    let Ok(name) = ModelName::parse_for_store(model) else {
        return true;
    };
    let patterns = |texts: &[String]| {
        let read = texts.iter().map(|text| ModelPattern::parse(text));
        read.filter_map(Result::ok).collect()
    };
    let rules = ModelRules {
        include: patterns(include),
        exclude: patterns(exclude),
    };
    rules.allow(name.key())
}

fn judge_model(text: Option<&str>, invalid: &mut Invalid) -> String {
    let text = text.unwrap_or_default().trim();
    if text.is_empty() {
        invalid.add("model", "model name is required");
    } else if let Err(error) = ModelName::parse_for_store(text) {
        invalid.add("model", error.to_string());
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::draft;
    use super::*;

    fn pull(body: Value) -> Result<NewPull, Invalid> {
        draft::<PullDraft>(body, &[])?.create()
    }

    fn job(body: Value) -> Result<NewPull, Invalid> {
        draft::<JobDraft>(body, &[])?.create()
    }

    #[test]
    fn the_predecessors_body_is_understood() {
        let all = pull(json!({"model": " llama3 ", "stream": false})).unwrap();
        assert_eq!((all.model.as_str(), &all.node_ids), ("llama3", &None));
        let one = json!({"model": "a/b:c", "node_id": 7, "insecure": true});
        let one = pull(one).unwrap();
        assert_eq!((one.node_ids, one.insecure), (Some(vec![7]), true));
    }

    #[test]
    fn what_is_wrong_is_said_by_field() {
        for body in [json!({}), json!({"model": null}), json!({"model": "  "})] {
            let invalid = pull(body).unwrap_err();
            assert_eq!(invalid.to_string(), "model: model name is required");
        }
        assert!(pull(json!({"model": "no spaces here"})).is_err());
        let typo = pull(json!({"model": "a", "node_ids": [1]})).unwrap_err();
        assert_eq!(typo.to_string(), "node_ids: unknown field");
        let many = job(json!({"model": "a", "kind": "push", "node_ids": []})).unwrap_err();
        assert_eq!(many.fields.len(), 2, "{many}");
    }

    #[test]
    fn rules_are_held_against_the_model_that_its_name_means() {
        let list = |patterns: &[&str]| patterns.iter().map(|one| (*one).to_owned()).collect();
        let allow = |model: &str, include: &[&str], exclude: &[&str]| {
            let (include, exclude): (Vec<_>, Vec<_>) = (list(include), list(exclude));
            rules_allow(model, &include, &exclude)
        };
        assert!(allow("llama3", &[], &[]));
        assert!(allow("LLAMA3", &["llama3:*"], &["llama3:70b"]));
        assert!(!allow("llama3:70b", &["llama3:*"], &["llama3:70b"]));
        assert!(!allow("moa", &["llama3:*"], &[]));
    }

    #[test]
    fn each_node_is_named_once() {
        let new = job(json!({"model": "a", "node_ids": [3, 1, 3]})).unwrap();
        assert_eq!(new.node_ids, Some(vec![1, 3]));
    }
}
