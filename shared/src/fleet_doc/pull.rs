//! `pull:` of the fleet document: where a model goes that no node holds yet, how many nodes
//! download at once, and what becomes of a pull whose client leaves.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::NodeDoc;
use crate::config::Reader;

/// Nodes that download at once where the document says nothing: enough to use a link that one
/// registry connection does not fill, few enough to leave it usable.
const AT_ONCE: u32 = 4;

/// How pulls are spread over the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullDoc {
    /// Where a model goes that no node holds yet.
    pub to: PullTo,
    /// Nodes that pull or create at once, over all requests of one data plane.
    pub at_once: u32,
    /// What becomes of a pull whose client leaves.
    pub when_client_leaves: WhenClientLeaves,
}

impl Default for PullDoc {
    fn default() -> Self {
        Self {
            to: PullTo::All,
            at_once: AT_ONCE,
            when_client_leaves: WhenClientLeaves::Cancel,
        }
    }
}

/// Which of the nodes that may have a model get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullTo {
    /// Every one of them.
    All,
    /// Those that carry all of these labels.
    Labels(BTreeMap<String, String>),
    /// So many of them, those with the fewest bytes installed.
    Count(u32),
}

impl PullTo {
    /// Whether a node's labels let it take part.
    pub fn fits(&self, node: &NodeDoc) -> bool {
        match self {
            Self::All | Self::Count(_) => true,
            Self::Labels(wanted) => wanted
                .iter()
                .all(|(key, value)| node.labels.get(key) == Some(value)),
        }
    }
}

/// What becomes of a pull whose client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenClientLeaves {
    /// It ends, as with Ollama: what came is kept, and the next pull goes on from there.
    #[default]
    Cancel,
    /// It goes on to its end.
    Continue,
}

pub(super) fn read_pull(at: &Reader<'_>) -> PullDoc {
    let default = PullDoc::default();
    let to = read_to(at);
    let at_once = at.or("at_once", default.at_once);
    if !(1..=1000).contains(&at_once) {
        at.complain("at_once", "must be from 1 to 1000");
    }
    let left = at.get::<String>("when_client_leaves");
    let when_client_leaves = match left.as_deref() {
        None | Some("cancel") => WhenClientLeaves::Cancel,
        Some("continue") => WhenClientLeaves::Continue,
        Some(_) => {
            at.complain("when_client_leaves", "must be cancel or continue");
            WhenClientLeaves::Cancel
        }
    };
    at.finish();
    PullDoc {
        to,
        at_once,
        when_client_leaves,
    }
}

fn read_to(at: &Reader<'_>) -> PullTo {
    const SHAPES: &str = "must be `all`, `{labels: {key: value}}` or `{count: 2}`";
    match at.value("to") {
        None => PullTo::All,
        Some(Value::String(text)) if text == "all" => PullTo::All,
        Some(Value::Mapping(_)) => {
            let to = at.section("to");
            let labels = to.get::<BTreeMap<String, String>>("labels");
            let count = to.get::<u32>("count");
            to.finish();
            match (labels, count) {
                (Some(labels), None) if !labels.is_empty() => PullTo::Labels(labels),
                (None, Some(count @ 1..)) => PullTo::Count(count),
                _ => {
                    at.complain("to", SHAPES);
                    PullTo::All
                }
            }
        }
        Some(_) => {
            at.complain("to", SHAPES);
            PullTo::All
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_doc::FleetDoc;

    fn read(pull: &str) -> Result<PullDoc, Vec<(String, usize)>> {
        let text = format!("nodes: []\npull:\n{pull}");
        FleetDoc::from_yaml(&text)
            .map(|doc| doc.pull)
            .map_err(|problems| {
                let seen = problems.iter().map(|p| (p.key.clone(), p.line.unwrap()));
                seen.collect()
            })
    }

    #[test]
    fn every_shape_is_read_and_nothing_means_the_defaults() {
        assert_eq!(
            FleetDoc::from_yaml("nodes: []").unwrap().pull,
            PullDoc::default()
        );
        assert_eq!(read("  to: all\n").unwrap(), PullDoc::default());
        let labels = BTreeMap::from([("gpu".to_owned(), "a100".to_owned())]);
        assert_eq!(
            read("  to: {labels: {gpu: a100}}\n  at_once: 1\n  when_client_leaves: continue\n")
                .unwrap(),
            PullDoc {
                to: PullTo::Labels(labels),
                at_once: 1,
                when_client_leaves: WhenClientLeaves::Continue,
            }
        );
        assert_eq!(read("  to: {count: 2}\n").unwrap().to, PullTo::Count(2));
    }

    #[test]
    fn every_problem_names_its_line() {
        assert_eq!(
            read("  to: some\n  at_once: 0\n  when_client_leaves: wait\n  form: all\n")
                .unwrap_err(),
            [
                ("pull.to".to_owned(), 3),
                ("pull.at_once".to_owned(), 4),
                ("pull.when_client_leaves".to_owned(), 5),
                ("pull.form".to_owned(), 6),
            ]
        );
        for to in ["{count: 0}", "{}", "{count: 1, labels: {a: b}}", "[all]"] {
            let problems = read(&format!("  to: {to}\n")).unwrap_err();
            assert_eq!(problems, [("pull.to".to_owned(), 3)], "{to}");
        }
    }
}
