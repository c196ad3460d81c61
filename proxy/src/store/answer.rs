//! What the client is told at the end, from what became of it on each node. Pure.
//!
//! A library raises at any line that holds `error`, so a node that failed is a `status` line and a
//! field of the last one, and the last line is a success wherever one node has the model now: the
//! client can use it. An error stands at the end only where no node has it.

use http::StatusCode;
use serde_json::{Value, json};

use super::call::{Failure, Whole};

/// What became of a change on one node.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) node: String,
    pub(crate) result: Result<(), Failure>,
}

/// The end of an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Ending {
    /// For an answer of which nothing was sent yet.
    pub(crate) status: u16,
    /// A line before the last, where lines are wanted.
    pub(crate) summary: Option<Value>,
    /// The last line, or the whole body; `None` is an empty body.
    pub(crate) last: Option<Value>,
    /// What the access line says, where the status does not say it.
    pub(crate) outcome: Option<&'static str>,
}

/// The outcome of an answer that is a success on some nodes only.
const PARTIAL: &str = "partial";

impl Ending {
    /// Of a pull or create.
    pub(crate) fn of_transfer(told: &[Told]) -> Self {
        let failed = failures(told);
        if failed.len() == told.len() {
            return Self::failed(told);
        }
        let mut last = json!({ "status": "success" });
        detail(&mut last, told);
        let summary = (!failed.is_empty()).then(|| {
            let there = told.len() - failed.len();
            let text = format!(
                "on {there} of {} nodes; not on {}",
                told.len(),
                listed(&failed)
            );
            json!({ "status": text })
        });
        Self {
            status: 200,
            outcome: summary.is_some().then_some(PARTIAL),
            summary,
            last: Some(last),
        }
    }

    /// Of a copy or delete. A node that does not have the model has nothing left to do, as long as
    /// another had it; `undone` says what is not as it should be on the nodes that follow.
    pub(crate) fn of_change(told: &[Told], undone: &str) -> Self {
        let is_missing =
            |told: &Told| matches!(&told.result, Err(failure) if failure.status == Some(404));
        let rest: Vec<_> = told
            .iter()
            .filter(|told| !is_missing(told))
            .cloned()
            .collect();
        let failed = failures(&rest);
        if failed.is_empty() && !rest.is_empty() {
            return Self {
                status: 200,
                summary: None,
                last: None,
                outcome: None,
            };
        }
        if failed.len() == rest.len() {
            return Self::failed(if rest.is_empty() { told } else { &rest });
        }
        let mut last = json!({ "error": format!("{undone} {}", listed(&failed)) });
        detail(&mut last, told);
        Self {
            status: StatusCode::BAD_GATEWAY.as_u16(),
            summary: None,
            last: Some(last),
            outcome: Some(PARTIAL),
        }
    }

    /// Nobody did it. What all say in one voice is passed on as it is.
    fn failed(told: &[Told]) -> Self {
        let failed = failures(told);
        let same = failed.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let (status, text) = match failed.first() {
            Some((_, failure)) if same && failure.status.is_some() => {
                (failure.status, failure.text.clone())
            }
            _ => (None, listed(&failed)),
        };
        let mut last = json!({ "error": text });
        detail(&mut last, told);
        Self {
            status: status.unwrap_or(StatusCode::BAD_GATEWAY.as_u16()),
            summary: None,
            last: Some(last),
            outcome: None,
        }
    }
}

/// What a whole answer of a node means.
pub(crate) fn judged(whole: &Whole) -> Result<(), Failure> {
    let error = serde_json::from_slice::<Value>(&whole.body)
        .ok()
        .and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
    match (whole.status, error) {
        (200..=299, None) => Ok(()),
        (200..=299, Some(text)) => Err(Failure {
            status: Some(500), // as Ollama answers an error of its own progress at the end
            text,
        }),
        (status, Some(text)) => Err(Failure {
            status: Some(status),
            text,
        }),
        // no answer of Ollama's: a 404 of it says nothing of a model
        (status, None) => Err(Failure::of(format!("it answered {status}"))),
    }
}

fn failures(told: &[Told]) -> Vec<(&str, &Failure)> {
    let failed = told
        .iter()
        .filter_map(|told| Some((told.node.as_str(), told.result.as_ref().err()?)));
    failed.collect()
}

/// `gpu-1: no space left on device; gpu-2: connection refused`
fn listed(failed: &[(&str, &Failure)]) -> String {
    let parts: Vec<_> = failed
        .iter()
        .map(|(node, failure)| format!("{node}: {}", failure.text))
        .collect();
    parts.join("; ")
}

/// Each node's own end, where there are several.
fn detail(last: &mut Value, told: &[Told]) {
    if told.len() < 2 {
        return;
    }
    let nodes = told.iter().map(|told| match &told.result {
        Ok(()) => json!({ "node": told.node, "status": "success" }),
        Err(failure) => json!({ "node": told.node, "error": failure.text }),
    });
    last["nodes"] = nodes.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node, and its status and words where it failed.
    type One<'a> = (&'a str, Result<(), (u16, &'a str)>);

    fn told(each: &[One<'_>]) -> Vec<Told> {
        let each = each.iter().map(|(node, result)| Told {
            node: (*node).to_owned(),
            result: result.map_err(|(status, text)| Failure {
                status: (status > 0).then_some(status),
                text: text.to_owned(),
            }),
        });
        each.collect()
    }

    fn last(ending: &Ending) -> String {
        ending
            .last
            .as_ref()
            .map_or_else(String::new, Value::to_string)
    }

    #[test]
    fn a_pull_is_a_success_where_one_node_has_it() {
        let all = Ending::of_transfer(&told(&[("a", Ok(())), ("b", Ok(()))]));
        assert_eq!(
            last(&all),
            r#"{"status":"success","nodes":[{"node":"a","status":"success"},{"node":"b","status":"success"}]}"#
        );
        assert_eq!((all.status, all.summary, all.outcome), (200, None, None));
        let some = Ending::of_transfer(&told(&[("a", Ok(())), ("b", Err((500, "full")))]));
        assert_eq!(
            some.summary.unwrap()["status"],
            "on 1 of 2 nodes; not on b: full"
        );
        assert_eq!(some.outcome, Some("partial"));
        let one = Ending::of_transfer(&told(&[("a", Ok(()))]));
        assert_eq!(last(&one), r#"{"status":"success"}"#, "as from one Ollama");
    }

    #[test]
    fn one_common_error_stands_as_it_is_and_others_name_their_nodes() {
        let same = Ending::of_transfer(&told(&[
            ("a", Err((500, "pull model manifest: file does not exist"))),
            ("b", Err((500, "pull model manifest: file does not exist"))),
        ]));
        assert_eq!(same.status, 500);
        assert_eq!(
            same.last.unwrap()["error"],
            "pull model manifest: file does not exist"
        );
        let other = Ending::of_transfer(&told(&[("a", Err((500, "x"))), ("b", Err((0, "y")))]));
        assert_eq!(other.status, 502);
        assert_eq!(other.last.unwrap()["error"], "a: x; b: y");
        let ours = Ending::of_transfer(&told(&[
            ("a", Err((0, "it is down"))),
            ("b", Err((0, "it is down"))),
        ]));
        assert_eq!(ours.last.unwrap()["error"], "a: it is down; b: it is down");
    }

    #[test]
    fn a_delete_is_done_when_nobody_has_it_any_more() {
        let done = told(&[("a", Ok(())), ("b", Err((404, "model 'm' not found")))]);
        let done = Ending::of_change(&done, "still on");
        assert_eq!((done.status, done.last), (200, None));
        let missing = told(&[("a", Err((404, "gone"))), ("b", Err((404, "gone")))]);
        let missing = Ending::of_change(&missing, "still on");
        assert_eq!(
            (missing.status, missing.last.unwrap()["error"].clone()),
            (404, "gone".into())
        );
        let left = told(&[
            ("a", Ok(())),
            ("b", Err((0, "it is down"))),
            ("c", Err((404, "gone"))),
        ]);
        let left = Ending::of_change(&left, "model 'm' is still on");
        assert_eq!(left.status, 502);
        assert_eq!(
            left.last.unwrap()["error"],
            "model 'm' is still on b: it is down"
        );
        let none = told(&[("a", Err((0, "it is down"))), ("b", Err((404, "gone")))]);
        let none = Ending::of_change(&none, "still on");
        assert_eq!(
            (none.status, none.last.unwrap()["error"].clone()),
            (502, "a: it is down".into())
        );
    }
}
