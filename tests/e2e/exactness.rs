//! Exactness: every recorded exchange, sent to a node and through aivonx with that one node behind
//! it, is answered the same and as recorded, byte for byte, but for the one list of exceptions
//! below. What is set aside (times, ids, generated text) is what the recordings' README names.

mod recorded;
mod streams;

#[allow(dead_code, reason = "the simulated node's tests use the rest")]
#[path = "../../sim/tests/support/client.rs"]
mod raw;
#[path = "../../sim/tests/support/scrub.rs"]
mod scrub;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use aivonx_sim::SimNode;
use serde_json::Value;

use crate::support::{Aivonx, PATIENCE, Setup};
use raw::{Answer, End};
use recorded::{Exchange, FILES, exchanges, node};
use scrub::scrub;

/// How an answer may differ, by the kinds that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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
}

/// The exceptions: name (one `*` stands for any text), kind, reason.
const EXCEPTIONS: [(&str, Kind, &str); 7] = [
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

/// What one side did.
struct Got {
    answer: Option<Answer>,
    end: End,
    /// Whether the connection carried another request.
    reusable: bool,
}

/// Sends a recorded request on a connection of its own, and a plain one after it.
async fn send(addr: SocketAddr, one: &Exchange) -> Got {
    let mut client = raw::Client::connect(addr).await.unwrap();
    client.send(&one.request).await;
    let (answer, end) = client.answer(one.is_head()).await;
    let mut reusable = false;
    if end == End::Open {
        client.bytes.clear();
        client
            .send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let (next, _) = client.answer(false).await;
        reusable = next.is_some_and(|next| next.body() == "Ollama is running");
    }
    Got {
        answer,
        end,
        reusable,
    }
}

/// The headers of ours that are added, and those whose value is set aside.
fn headers(answer: &Answer) -> BTreeSet<String> {
    let added = [
        "x-request-id",
        "x-aivonx-node",
        "x-aivonx-attempts",
        "access-control-expose-headers", // lets a page read those three
        "connection",
        "date",
    ];
    answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| !added.contains(&name.as_str()))
        // lengths follow from bodies, which are compared: times in them differ in length
        .map(|(name, value)| {
            if name == "content-length" {
                name
            } else {
                format!("{name}: {value}")
            }
        })
        .collect()
}

/// The parts in which two answers differ.
fn differences(want: &Answer, got: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |part: &str, want: &dyn std::fmt::Debug, got: &dyn std::fmt::Debug| {
        let (want, got) = (format!("{want:?}"), format!("{got:?}"));
        if want != got {
            found.push(format!("{part}\n     want {want}\n     got  {got}"));
        }
    };
    compare("status", &want.status_line, &got.status_line);
    compare("100 Continue", &want.had_continue, &got.had_continue);
    compare("headers", &headers(want), &headers(got));
    compare("body", &scrub(&want.body()), &scrub(&got.body()));
    compare("whole", &want.is_complete, &got.is_complete);
    found
}

/// The generated text of an answer, which depends on nothing but the order of requests.
fn generated(answer: &Answer) -> String {
    fn collect(value: &Value, out: &mut String) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text)
                            if matches!(
                                key.as_str(),
                                "response" | "content" | "text" | "delta"
                            ) =>
                        {
                            out.push_str(text);
                        }
                        value => collect(value, out),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
            _ => {}
        }
    }
    let mut out = String::new();
    for line in answer.body().lines() {
        let json = line.strip_prefix("data: ").unwrap_or(line);
        collect(&serde_json::from_str(json).unwrap_or_default(), &mut out);
    }
    out
}

/// Whether no line of a stream was split over two HTTP chunks.
fn lines_are_whole(answer: &Answer) -> bool {
    let streams = ["application/x-ndjson", "text/event-stream"];
    !streams.contains(&answer.header("content-type").unwrap_or_default())
        || answer.texts().iter().all(|chunk| chunk.ends_with('\n'))
}

fn all_differences(one: &Exchange, direct: &Got, through: &Got) -> Vec<String> {
    let (Some(want), Some(got)) = (&direct.answer, &through.answer) else {
        return vec![format!("no answer: {:?} and {:?}", direct.end, through.end)];
    };
    let mut found = differences(want, got);
    let recorded = differences(&one.answer, got);
    found.extend(recorded.into_iter().map(|part| format!("recorded {part}")));
    if generated(want) != generated(got) {
        found.push(format!(
            "generated text\n     want {:?}\n     got  {:?}",
            generated(want),
            generated(got)
        ));
    }
    if !lines_are_whole(got) {
        found.push("a line was split over two chunks".into());
    }
    if (direct.end, direct.reusable) != (through.end, through.reusable) {
        found.push(format!(
            "connection\n     want {:?}, reusable {}\n     got  {:?}, reusable {}",
            direct.end, direct.reusable, through.end, through.reusable
        ));
    }
    found
}

fn exception(name: &str) -> Option<(usize, Kind)> {
    let fits = |pattern: &str| match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    };
    let at = EXCEPTIONS.iter().position(|(pattern, ..)| fits(pattern))?;
    Some((at, EXCEPTIONS[at].1))
}

/// Whether an answer that differs does so in the way of its kind, and in no other.
fn is_wanted(kind: Kind, direct: &Got, through: &Got) -> bool {
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

/// What a replay found.
#[derive(Default)]
struct Tally {
    same: usize,
    excepted: Vec<String>,
    used: BTreeSet<usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, one: &Exchange, direct: &Got, through: &Got) {
        let found = all_differences(one, direct, through);
        match exception(&one.name) {
            None if found.is_empty() => self.same += 1,
            Some((at, kind)) if !found.is_empty() && is_wanted(kind, direct, through) => {
                self.used.insert(at);
                self.excepted.push(one.name.clone());
            }
            Some(_) if found.is_empty() => self
                .wrong
                .push(format!("{}: needs no exception any more", one.name)),
            excepted => self.wrong.push(format!(
                "{} {excepted:?}: {}",
                one.name,
                found.join("\n   ")
            )),
        }
    }
}

/// Replays one file on two fresh nodes, one of them behind aivonx.
async fn replay(file: &str, tally: &mut Tally) {
    let (alone, behind) = (
        SimNode::start(node()).await.unwrap(),
        SimNode::start(node()).await.unwrap(),
    );
    let aivonx = Setup::nodes(&[&behind]).start().await;
    for one in exchanges(file) {
        let direct = send(alone.addr(), &one).await;
        let through = through(&aivonx, &one, &direct).await;
        tally.note(&one, &direct, &through);
    }
}

/// Sends through aivonx; a read of the fleet until it knows what the node says.
async fn through(aivonx: &Aivonx, one: &Exchange, direct: &Got) -> Got {
    let mut got = send(aivonx.addr, one).await;
    if one.request.starts_with(b"GET /api/ps ") {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !is_wanted(Kind::FleetRead, direct, &got) && std::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await; // residency has its own clock
            got = send(aivonx.addr, one).await;
        }
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_is_the_same_through_the_proxy() {
    let mut tally = Tally::default();
    for file in FILES {
        replay(file, &mut tally).await;
    }
    for (at, (pattern, ..)) in EXCEPTIONS.iter().enumerate() {
        if !tally.used.contains(&at) {
            tally
                .wrong
                .push(format!("{pattern}: no exchange needs this exception"));
        }
    }
    println!(
        "{} of 267 the same, {} exceptions",
        tally.same,
        tally.excepted.len()
    );
    assert!(
        tally.wrong.is_empty(),
        "{} wrong:\n{}",
        tally.wrong.len(),
        tally.wrong.join("\n")
    );
    assert_eq!(tally.same + tally.excepted.len(), 267);
}
