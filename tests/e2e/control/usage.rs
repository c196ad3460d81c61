//! Usage by key, model and node: what the simulated node counted is what the control plane stores, exactly
//! once, whatever is away or dies meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{house, on_both};
use crate::support::{Kind, Stack, chat, post, until};

on_both!(
    what_the_nodes_counted_is_told_by_key_model_and_node,
    what_is_no_use_of_a_model_does_not_count,
    a_plane_that_ends_brings_the_last_of_it,
);

/// Requests, tokens of prompts and of answers.
type Sums = [u64; 3];

const EVERYTHING: &str = "by=";

/// Asks for an answer of so many tokens, with a key or without one where it is empty; adds what the node
/// counted to what is expected.
async fn ask(stack: &Stack, key: &str, tokens: u32, expected: &mut Sums) {
    let mut lines = "Content-Type: application/json\r\n".to_owned();
    if !key.is_empty() {
        lines = format!("Authorization: Bearer {key}\r\n{lines}");
    }
    let body = chat("tiny", tokens, false);
    let answer = stack.send("POST", "/api/chat", &lines, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let counted = ["prompt_eval_count", "eval_count"].map(|key| answer[key].as_u64().unwrap());
    assert_eq!(counted[1], u64::from(tokens));
    add(expected, [1, counted[0], counted[1]]);
}

/// The status of a request that no model is needed for.
async fn try_one(stack: &Stack, key: &str) -> u16 {
    let lines = format!("Authorization: Bearer {key}\r\n");
    stack.send("GET", "/api/tags", &lines, "").await.status
}

async fn ask_often(stack: &Stack, times: u32, expected: &mut Sums) {
    for number in 0..times {
        ask(stack, "", 1 + number % 3, expected).await;
    }
}

fn add(sums: &mut Sums, more: Sums) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

/// What the control plane says; `None` where it does not.
async fn told(stack: &Stack, query: &str) -> Option<Vec<Value>> {
    let path = format!("/api/proxy/usage?{query}");
    let answer = stack.api("GET", &path, Value::Null).await;
    (answer.status == 200).then(|| answer.json().as_array().unwrap().clone())
}

fn sums(row: &Value) -> Sums {
    ["requests", "prompt_tokens", "output_tokens"].map(|key| row[key].as_u64().unwrap())
}

/// Everything that is stored.
async fn total(stack: &Stack) -> Option<Sums> {
    let rows = told(stack, EVERYTHING).await?;
    Some(rows.first().map_or([0; 3], sums))
}

/// Waits until all is stored and nothing waits; then it must be this, and stay so although all of it was
/// perhaps sent more than once.
async fn is_stored(stack: &Stack, expected: Sums) {
    until("usage is stored", || async {
        let total = total(stack).await;
        total.is_some_and(|total| total[0] >= expected[0])
    })
    .await;
    nothing_waits(stack).await;
    assert_eq!(total(stack).await, Some(expected));
    assert_eq!(stack.aivonx.metric("aivonx_usage_lost_requests_total"), 0.0);
}

async fn nothing_waits(stack: &Stack) {
    until("nothing waits", || async {
        kept(&stack.state())[0] == 0 && stack.aivonx.metric("aivonx_usage_waiting_batches") == 0.0
    })
    .await;
}

/// What stands in the batches on disk.
fn kept(state: &Path) -> Sums {
    let mut kept = [0; 3];
    let folders = std::fs::read_dir(state.join("usage"));
    let folders = folders.into_iter().flatten().filter_map(Result::ok);
    let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok());
    for file in files.flatten().filter_map(Result::ok) {
        let path = file.path();
        if path.extension().is_none_or(|suffix| suffix != "json") {
            continue;
        }
        // it may be gone by now
        let Ok(text) = std::fs::read(path) else {
            continue;
        };
        let batch: Value = serde_json::from_slice(&text).unwrap();
        for entry in batch["entries"].as_array().unwrap() {
            add(&mut kept, sums(entry));
        }
    }
    kept
}

/// Waits until all that was counted and not stored is on disk.
async fn is_kept(stack: &Stack, expected: Sums) {
    until("usage is kept on disk", || async {
        kept(&stack.state()) == expected
    })
    .await;
}

/// Makes a key, waits until it is in force, and adds the first request with it to what is expected.
async fn key(stack: &Stack, id: &str, expected: &mut Sums) -> String {
    let body = json!({"key_id": id});
    let made = stack.api("POST", "/api/proxy/keys", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json()["key"].as_str().unwrap().to_owned();
    until("the key is in force", || async {
        try_one(stack, &key).await == 200
    })
    .await;
    ask(stack, &key, 3, expected).await;
    key
}

async fn what_the_nodes_counted_is_told_by_key_model_and_node(kind: Kind) {
    let (_sim, stack, _) = house(kind).await;
    let never = json!({"anonymous": "never"});
    let closed = stack.api("PATCH", "/api/proxy/settings", never).await;
    assert_eq!(closed.status, 200, "{}", closed.text());
    until("nobody gets in without a key", || async {
        try_one(&stack, "").await == 401
    })
    .await;
    let (mut all, mut expected) = (Sums::default(), BTreeMap::new());
    for (id, times) in [("team-a", 3), ("team-b", 5)] {
        let mut sums = Sums::default();
        let key = key(&stack, id, &mut sums).await;
        for number in 0..times {
            ask(&stack, &key, 1 + number, &mut sums).await;
        }
        add(&mut all, sums);
        expected.insert(id, sums);
    }
    is_stored(&stack, all).await;
    let rows = told(&stack, "by=key,model,node").await.unwrap();
    let told_of: BTreeMap<_, _> = rows
        .iter()
        .map(|row| (row["key_id"].as_str().unwrap(), sums(row)))
        .collect();
    assert_eq!(told_of, expected);
    for row in &rows {
        let names = (&row["model"], &row["node"]);
        assert_eq!(names, (&json!("tiny:latest"), &json!("gpu-1")));
    }
    let hours = told(&stack, "by=hour&key_id=team-b").await.unwrap();
    assert!((1..=2).contains(&hours.len()), "{hours:?}");
}

async fn what_is_no_use_of_a_model_does_not_count(kind: Kind) {
    let (_sim, stack, _) = house(kind).await;
    let addr = stack.aivonx.addr;
    let show = post(addr, "/api/show", r#"{"model":"tiny"}"#).await;
    assert_eq!(show.status, 200);
    let unknown = post(addr, "/api/chat", &chat("nosuch", 1, false)).await;
    assert_eq!(unknown.status, 404);
    crate::support::get(addr, "/api/tags").await;
    let mut expected = Sums::default();
    ask(&stack, "", 2, &mut expected).await;
    is_stored(&stack, expected).await;
    let rows = told(&stack, "by=key").await.unwrap();
    assert_eq!(rows[0]["key_id"], "anonymous");
}

async fn a_plane_that_ends_brings_the_last_of_it(kind: Kind) {
    let (_sim, mut stack, _) = house(kind).await;
    let mut expected = Sums::default();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        ask_often(&stack, 3, &mut expected).await;
        // a client has its answer a moment before the request has ended
        let counted = "aivonx_key_requests_total{key=\"anonymous\"}";
        until("all are counted", || async {
            stack.aivonx.metric(counted) >= 3.0
        })
        .await;
        stack.aivonx.signal(signal);
        assert_eq!(stack.aivonx.ends().await, Some(0));
        stack.start_again().await;
        is_stored(&stack, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_is_made_up_for() {
    let (_sim, stack, _) = house(Kind::Many).await;
    let postgres = &stack.apart.as_ref().unwrap().postgres;
    let mut expected = Sums::default();
    ask_often(&stack, 4, &mut expected).await;
    postgres.stop().unwrap();
    ask_often(&stack, 10, &mut expected).await;
    until("usage waits", || async {
        stack.aivonx.metric("aivonx_usage_waiting_batches") > 0.0
    })
    .await;
    postgres.start().unwrap();
    ask_often(&stack, 2, &mut expected).await;
    is_stored(&stack, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_comes_back_empty_loses_nothing() {
    let (_sim, stack, _) = house(Kind::Many).await;
    let apart = stack.apart.as_ref().unwrap();
    let mut expected = Sums::default();
    ask_often(&stack, 4, &mut expected).await;
    is_stored(&stack, expected).await;
    // what is on the bus is in no database, and then it is on no bus
    apart.postgres.stop().unwrap();
    let before = expected;
    ask_often(&stack, 4, &mut expected).await;
    until("usage was sent", || async {
        stack.aivonx.metric("aivonx_usage_waiting_batches") > 0.0
    })
    .await;
    apart.redis.stop();
    ask_often(&stack, 4, &mut expected).await;
    let waits = std::array::from_fn(|at| expected[at] - before[at]);
    is_kept(&stack, waits).await;
    apart.postgres.start().unwrap();
    apart.redis.start();
    is_stored(&stack, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_away_finds_everything_when_it_is_back() {
    let (_sim, mut stack, _) = house(Kind::Many).await;
    let mut expected = Sums::default();
    ask_often(&stack, 4, &mut expected).await;
    stack.apart.as_mut().unwrap().kill_control();
    ask_often(&stack, 8, &mut expected).await;
    stack.apart.as_mut().unwrap().restart_control();
    is_stored(&stack, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plane_kept_is_brought_by_the_next_one() {
    let (_sim, mut stack, _) = house(Kind::Many).await;
    let mut expected = Sums::default();
    ask_often(&stack, 2, &mut expected).await;
    is_stored(&stack, expected).await;
    stack.apart.as_ref().unwrap().redis.stop();
    ask_often(&stack, 6, &mut expected).await;
    stack.aivonx.signal(Signal::SIGTERM);
    assert_eq!(stack.aivonx.ends().await, Some(0));
    stack.apart.as_ref().unwrap().redis.start();
    stack.start_again().await;
    is_stored(&stack, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_that_is_killed_loses_no_more_than_it_had_not_written_yet() {
    let (_sim, mut stack, _) = house(Kind::Many).await;
    let mut expected = Sums::default();
    // sent, on the bus, in no database: nobody has said that it is stored
    stack.apart.as_ref().unwrap().postgres.stop().unwrap();
    ask_often(&stack, 6, &mut expected).await;
    is_kept(&stack, expected).await;
    let mut most = expected;
    ask_often(&stack, 5, &mut most).await;
    stack.aivonx.kill();
    stack.apart.as_ref().unwrap().postgres.start().unwrap();
    stack.start_again().await;
    until("usage is stored", || async {
        total(&stack).await.is_some_and(|total| total >= expected)
    })
    .await;
    nothing_waits(&stack).await;
    let total = total(&stack).await.unwrap();
    let range = expected.iter().zip(&most).zip(&total);
    for ((least, most), total) in range {
        assert!(
            (least..=most).contains(&total),
            "{least} to {most}: {total}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_without_disk_and_bus_keeps_it_in_memory_and_tells_how_much_goes_with_it() {
    let (_sim, mut stack, _) = house(Kind::Many).await;
    let mut expected = Sums::default();
    for ends in [false, true] {
        stack.aivonx.bound_files(Some(1)); // as a disk that is full
        stack.apart.as_ref().unwrap().redis.stop();
        let before = expected;
        ask_often(&stack, 5, &mut expected).await;
        until("usage waits in memory", || async {
            let log = stack.aivonx.log();
            log.contains("usage cannot be kept on disk")
                && stack.aivonx.metric("aivonx_usage_waiting_batches") > 0.0
        })
        .await;
        if ends {
            stack.aivonx.signal(Signal::SIGTERM);
            assert_eq!(stack.aivonx.ends().await, Some(0));
            let told = stack.aivonx.log();
            let line = told
                .lines()
                .find(|line| line.contains("usage is lost unless it arrived"))
                .unwrap_or_else(|| panic!("{told}"));
            assert!(line.contains("\"requests\":5"), "{line}");
            expected = before;
            stack.apart.as_ref().unwrap().redis.start();
            stack.start_again().await;
        } else {
            stack.aivonx.bound_files(None);
            stack.apart.as_ref().unwrap().redis.start();
        }
        is_stored(&stack, expected).await;
    }
}
