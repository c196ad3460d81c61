//! Exactness: every recorded exchange, sent to a node and through aivonx with that one node behind
//! it, is answered the same and as recorded, byte for byte, but for the one list of exceptions
//! in `exceptions`. What is set aside (times, ids, generated text) is what the recordings' README
//! names. The same over HTTP/2 as far as it can be said there (`wire`).

mod exceptions;
mod recorded;
mod streams;
mod wire;

#[allow(dead_code, reason = "the simulated node's tests use the rest")]
#[path = "../../sim/tests/support/client.rs"]
mod raw;
#[path = "../../sim/tests/support/scrub.rs"]
mod scrub;

use std::collections::BTreeSet;
use std::time::Duration;

use aivonx_sim::SimNode;
use serde_json::Value;

use crate::support::{Aivonx, PATIENCE, Setup};
use exceptions::{Exception, Kind, exceptions, is_for, is_wanted};
use raw::Answer;
use recorded::{Exchange, FILES, exchanges, node};
use scrub::scrub;
use wire::{Got, Wire};

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

/// What a replay found.
struct Tally {
    wire: Wire,
    exceptions: Vec<Exception>,
    same: usize,
    excepted: BTreeSet<String>,
    /// What cannot be had in this way, with the reason.
    left_out: Vec<(String, &'static str)>,
    wrong: Vec<String>,
}

impl Tally {
    fn new(wire: Wire) -> Self {
        Self {
            wire,
            exceptions: exceptions(wire),
            same: 0,
            excepted: BTreeSet::new(),
            left_out: Vec::new(),
            wrong: Vec::new(),
        }
    }

    fn note(&mut self, one: &Exchange, direct: &Got, through: &Got) {
        let found = all_differences(one, direct, through);
        let exception = self.exceptions.iter().find(|each| is_for(each, &one.name));
        match exception {
            None if found.is_empty() => self.same += 1,
            Some((_, kind, _)) if !found.is_empty() && is_wanted(*kind, direct, through) => {
                self.excepted.insert(one.name.clone());
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

    /// Each exception must have been needed, but for those of what was left out.
    fn note_unneeded(&mut self) {
        for exception in &self.exceptions {
            let mut left_out = self.left_out.iter().map(|(name, _)| name);
            let mut seen = left_out.by_ref().chain(&self.excepted);
            if !seen.any(|name| is_for(exception, name)) {
                let pattern = exception.0;
                self.wrong
                    .push(format!("{pattern}: no exchange needs this exception"));
            }
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
    let wire = tally.wire;
    for mut one in exchanges(file) {
        if let Some(reason) = wire.leaves_out(&one) {
            tally.left_out.push((one.name, reason));
            continue;
        }
        let mut direct = Wire::Http1.send(alone.addr(), &one).await;
        direct.answer = direct.answer.map(|answer| wire.says(&answer));
        one.answer = wire.says(&one.answer);
        let through = through(&aivonx, wire, &one, &direct).await;
        tally.note(&one, &direct, &through);
    }
}

/// Sends through aivonx; a read of the fleet until it knows what the node says.
async fn through(aivonx: &Aivonx, wire: Wire, one: &Exchange, direct: &Got) -> Got {
    let mut got = wire.send(aivonx.addr, one).await;
    if one.request.starts_with(b"GET /api/ps ") {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !is_wanted(Kind::FleetRead, direct, &got) && std::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await; // residency has its own clock
            got = wire.send(aivonx.addr, one).await;
        }
    }
    got
}

/// Replays all 267 but so many that cannot be had in this way.
async fn replay_all(wire: Wire, left_out: usize) {
    let mut tally = Tally::new(wire);
    for file in FILES {
        replay(file, &mut tally).await;
    }
    tally.note_unneeded();
    println!(
        "{wire:?}: {} of 267 the same, {} exceptions, {} left out: {:#?}",
        tally.same,
        tally.excepted.len(),
        tally.left_out.len(),
        tally.left_out
    );
    assert!(
        tally.wrong.is_empty(),
        "{} wrong:\n{}",
        tally.wrong.len(),
        tally.wrong.join("\n")
    );
    assert_eq!(tally.left_out.len(), left_out, "{:?}", tally.left_out);
    assert_eq!(tally.same + tally.excepted.len(), 267 - left_out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_is_the_same_through_the_proxy() {
    replay_all(Wire::Http1, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_is_the_same_over_http_2() {
    replay_all(Wire::Http2, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_is_the_same_over_http_2_with_bodies_of_no_length() {
    replay_all(Wire::Http2WithoutLengths, 6).await;
}
