//! The simulated node against the recordings of a real one: every exchange, byte for byte but for
//! what the recordings' README sets aside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use aivonx_sim::SimNode;
use serde_json::Value;

use support::client::{Answer, End, exchange};
use support::recorded::{bytes_of, node, recording};
use support::scrub::scrub;

/// What may differ beyond the README, by name of the exchange and of the part, with the reason.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// One difference, in words.
fn differences(name: &str, want: &Answer, got: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |part: &str, want: String, got: String| {
        let excepted = EXCEPTIONS.iter().any(|(n, p, _)| *n == name && *p == part);
        if want != got && !excepted {
            found.push(format!("{name}: {part}\n   want {want}\n   got  {got}"));
        }
    };
    compare("status", want.status_line.clone(), got.status_line.clone());
    compare(
        "continue",
        want.had_continue.to_string(),
        got.had_continue.to_string(),
    );
    let same_bytes = want.body() == got.body();
    compare(
        "headers",
        headers(want, same_bytes),
        headers(got, same_bytes),
    );
    let scrubbed = |a: &Answer| a.texts().iter().map(|t| scrub(t)).collect::<Vec<_>>();
    let (want_chunks, got_chunks) = (scrubbed(want), scrubbed(got));
    compare(
        "chunks",
        want_chunks.len().to_string(),
        got_chunks.len().to_string(),
    );
    for (i, (w, g)) in want_chunks.iter().zip(&got_chunks).enumerate() {
        compare(&format!("chunk {i}"), w.clone(), g.clone());
    }
    found
}

/// Sorted headers; a length only counts where the bodies are equal.
fn headers(answer: &Answer, same_bytes: bool) -> String {
    let mut list: Vec<String> = answer
        .headers
        .iter()
        .map(|(n, v)| {
            if n == "Content-Length" && !same_bytes {
                n.clone()
            } else {
                format!("{n}: {v}")
            }
        })
        .collect();
    list.sort();
    list.join(" | ")
}

/// Replays a file on a fresh node, one connection an exchange as it was recorded.
async fn replay(file: &str) {
    replay_as(file, &[]).await;
}

/// The recordings with other names and digests, each as long as the one it stands for: what was
/// computed follows, what was canned would not.
const OTHERS: [(&str, &str); 13] = [
    ("tiny", "lion"),
    ("TINY", "LION"),
    ("Tiny", "Lion"),
    ("small", "panda"),
    ("\"emb\"", "\"owl\""),
    ("\"emb\\\"", "\"owl\\\""),
    ("\"emb:", "\"owl:"),
    ("\"big", "\"elk"),
    ("nosuch", "absent"),
    ("made for tests", "free to use it"),
    (
        "02c58c8bfd66ac01e10dfb0f33323a974eac01a6b2ee65a27aa689fba01d5f0a",
        "25762c6c1e4c0bdb1ac9d33313fe9c8c9fee3ac1d932a3c129142a6379569d55", // of the other licence
    ),
    ("e2e3d901dd14b944", "0123456789abcdef"),
    ("f788c8494e75dd56", "fedcba9876543210"),
];

/// Replaces in text; bytes that are no text (packed bodies) stay.
fn renamed(bytes: Vec<u8>, names: &[(&str, &str)]) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) => names
            .iter()
            .fold(text, |text, (from, to)| text.replace(from, to))
            .into_bytes(),
        Err(e) => e.into_bytes(),
    }
}

#[expect(clippy::too_many_lines, reason = "one exchange after the other")]
async fn replay_as(file: &str, names: &[(&str, &str)]) {
    let rename = |text: &str| {
        let quoted = renamed(format!("\"{text}\"").into_bytes(), names);
        String::from_utf8(quoted)
            .unwrap()
            .trim_matches('"')
            .to_owned()
    };
    let mut spec = node();
    for model in &mut spec.models {
        for text in [
            &mut model.name,
            &mut model.digest,
            &mut model.weights_digest,
            &mut model.license,
        ] {
            *text = rename(text);
        }
    }
    let sim = SimNode::start(spec).await.unwrap();
    let (mut found, mut played) = (Vec::new(), 0);
    let exchanges = recording(file);
    for one in &exchanges {
        let name = one["name"].as_str().unwrap();
        if !names.is_empty() && one["request"].get("latin1").is_some() {
            continue; // a packed body keeps its name
        }
        played += 1;
        let request = renamed(bytes_of(&one["request"]), names);
        let recorded: Vec<u8> = one["events"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|e| bytes_of(&e[1]))
            .collect();
        let recorded = renamed(recorded, names);
        let is_closed = one["end"] == "closed by the server";
        let want = Answer::parse(&recorded, request.starts_with(b"HEAD "), is_closed);
        let (got, end) = exchange(sim.addr(), &request).await;
        let (Some(want), Some(got)) = (want, got) else {
            found.push(format!("{name}: no answer, {end:?}"));
            continue;
        };
        found.extend(differences(name, &want, &got));
        if (end != End::Open) != is_closed {
            found.push(format!(
                "{name}: recorded as {}, ended as {end:?}",
                one["end"]
            ));
        }
    }
    assert!(
        found.is_empty(),
        "{} differences in {file}:\n{}",
        found.len(),
        found.join("\n")
    );
    assert_eq!(sim.in_flight(), 0, "nothing is left over");
    let skipped = exchanges.len() - played;
    assert_eq!(
        sim.requests().len() + refused(&exchanges) + skipped,
        exchanges.len(),
        "every request was seen"
    );
}

/// Exchanges in which the request never reached a handler.
fn refused(exchanges: &[Value]) -> usize {
    exchanges
        .iter()
        .filter(|e| e["end"] == "closed by the server")
        .count()
}

#[tokio::test]
async fn reads_are_as_recorded() {
    replay("reads").await;
}

#[tokio::test]
async fn routing_is_as_recorded() {
    replay("routing").await;
}

#[tokio::test]
async fn transport_is_as_recorded() {
    replay("transport").await;
}

#[tokio::test]
async fn errors_are_as_recorded() {
    replay("errors").await;
}

#[tokio::test]
async fn names_are_as_recorded() {
    replay("names").await;
}

#[tokio::test]
async fn native_inference_is_as_recorded() {
    replay("native").await;
}

#[tokio::test]
async fn v1_is_as_recorded() {
    replay("v1").await;
}

#[tokio::test]
async fn store_changes_are_as_recorded() {
    replay("store").await;
}

#[tokio::test]
async fn other_names_and_digests_come_out_by_the_same_rules() {
    for file in [
        "reads",
        "routing",
        "transport",
        "errors",
        "names",
        "native",
        "v1",
        "store",
    ] {
        replay_as(file, &OTHERS).await;
    }
}
