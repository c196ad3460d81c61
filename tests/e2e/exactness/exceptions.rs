//! The one list of exceptions: which answers may differ, in what way, and why.

use std::collections::BTreeSet;

use serde_json::Value;

use super::raw::Answer;
use super::wire::{Got, Wire};
use super::{differences, headers};

/// How an answer may differ, by the kinds that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Answered from what is known of the fleet: the same models.
    FleetRead,
    /// The model's entry, where Ollama's router finds no route.
    SlashInName,
    /// Concerns a node's identity: 403 with a reason.
    Blocked,
    /// Would leave the house: 403 with a reason.
    Cloud,
    /// A request with two lengths is refused and its connection closed.
    Smuggling,
    /// More headers are allowed by a preflight.
    Cors,
    /// The same but for a `100 Continue` before it.
    NoContinue,
}

/// An exception: name (one `*` stands for any text), kind, reason.
pub(super) type Exception = (&'static str, Kind, &'static str);

/// The exceptions, whichever way a request comes.
const EXCEPTIONS: [Exception; 7] = [
    (
        "ps-*",
        Kind::FleetRead,
        "`running_on` names the nodes that hold a model loaded",
    ),
    (
        "read-get-v1-models-library-slash-tiny",
        Kind::SlashInName,
        "Ollama cannot be asked for names with a slash; the OpenAI libraries do ask",
    ),
    (
        "transport-preflight",
        Kind::Cors,
        "what OpenAI's and Anthropic's libraries send from a browser is allowed, too",
    ),
    (
        "transport-cl-te",
        Kind::Smuggling,
        "Ollama lets the chunks win and answers what is smuggled behind them",
    ),
    (
        "transport-two-cl",
        Kind::Smuggling,
        "Pingora refuses it with no body",
    ),
    (
        "bad-cloud-model",
        Kind::Cloud,
        "`cloud: deny` is the default",
    ),
    (
        "identity-*",
        Kind::Blocked,
        "a node's identity is not for clients",
    ),
];

/// And those of HTTP/2 alone.
const OVER_HTTP_2: [Exception; 1] = [(
    "transport-expect-continue",
    Kind::NoContinue,
    "Pingora sends no 1xx over HTTP/2, where curl asks for none",
)];

/// The exceptions of one way.
pub(super) fn exceptions(wire: Wire) -> Vec<Exception> {
    let more = match wire {
        Wire::Http1 => &[][..],
        Wire::Http2 | Wire::Http2WithoutLengths => &OVER_HTTP_2,
    };
    [&EXCEPTIONS, more].concat()
}

/// Whether an exception is for the exchange of this name.
pub(super) fn is_for((pattern, ..): &Exception, name: &str) -> bool {
    match pattern.split_once('*') {
        None => *pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

/// Whether an answer that differs does so in the way of its kind, and in no other.
pub(super) fn is_wanted(kind: Kind, direct: &Got, through: &Got) -> bool {
    let (Some(want), Some(got)) = (&direct.answer, &through.answer) else {
        return false;
    };
    match kind {
        Kind::FleetRead => {
            want.status_line == got.status_line
                && headers(want) == headers(got)
                && models(want) == models(got)
        }
        Kind::Blocked => {
            got.status() == 403
                && (got.body().contains("identity of a single node") || got.chunks.is_empty())
        }
        Kind::Cloud => got.status() == 403 && got.body().contains("ollama cloud is disabled"),
        Kind::SlashInName => got.status() == 200 && got.json()["object"] == "model",
        Kind::NoContinue => {
            let want = Answer {
                had_continue: got.had_continue,
                ..want.clone()
            };
            differences(&want, got).is_empty()
        }
        Kind::Smuggling => got.status() == 400 && !through.reusable,
        Kind::Cors => {
            let allowed = |answer: &Answer| -> BTreeSet<String> {
                let list = answer
                    .header("access-control-allow-headers")
                    .unwrap_or_default();
                list.split(',').map(str::to_ascii_lowercase).collect()
            };
            let others = |answer: &Answer| -> BTreeSet<String> {
                let mut others = headers(answer);
                others.retain(|line| !line.starts_with("access-control-allow-headers:"));
                others
            };
            want.status_line == got.status_line
                && others(want) == others(got)
                && allowed(want).is_subset(&allowed(got))
        }
    }
}

/// What a list of models says, whatever the order and the added fields.
fn models(answer: &Answer) -> BTreeSet<String> {
    let body = answer.json();
    let list = body["models"].as_array().or(body["data"].as_array());
    let fields = [
        "name",
        "model",
        "id",
        "digest",
        "size",
        "details",
        "capabilities",
        "owned_by",
        "context_length",
    ];
    let model = |model: &Value| {
        fields
            .map(|field| format!("{field}={}", model[field]))
            .join(" ")
    };
    list.map(|list| list.iter().map(model).collect())
        .unwrap_or_default()
}
