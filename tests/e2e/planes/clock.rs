//! A clock that is set: back by hours, then far ahead. What lasts for a while is measured by a clock that nobody
//! sets; what is dated goes on, and nothing waits for a time that was to come.

use std::path::{Path, PathBuf};

use aivonx_sim::{ModelSpec, NodeSpec, RegistrySpec, SimNode};
use serde_json::{Value, json};

use crate::support::{ROOT, Setup, Stack, Traffic, get, log_in, until};

/// The library that answers for the system's clock (Debian's `faketime`).
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let paths = folders.map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let mut found = paths.filter(|path| path.exists());
    found
        .next()
        .expect("faketime must be installed (script/bootstrap)")
}

/// Sets the clock of the program, as `+26h`.
fn set(file: &Path, by: &str) {
    crate::support::replace(file, &format!("{by}\n"));
}

fn by_a_clock_of_its_own(file: &Path) -> Setup {
    Setup::serve()
        .env("ROOT_PASSWORD", ROOT)
        .env("LD_PRELOAD", library().to_str().unwrap())
        .env("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

/// What the API dates an answer with, to the hour: `Sat, 28 Nov 2026 14`.
async fn hour(stack: &Stack) -> String {
    let answer = get(stack.aivonx.addr, "/api/health").await;
    answer.header("date").unwrap()[..19].to_owned()
}

#[tokio::test]
async fn a_clock_that_is_set_back_and_forth_stops_nothing_while_requests_flow() {
    let registry = RegistrySpec::serving([ModelSpec::new("moa").size(1_000_000_000)]);
    let spec = NodeSpec::new()
        .model(ModelSpec::new("tiny"))
        .registry(registry.speed(20_000_000.0));
    let (sim, folder) = (
        SimNode::start(spec).await.unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let clock = folder.path().join("clock");
    set(&clock, "+0");
    let mut stack = Stack::alone(by_a_clock_of_its_own(&clock), ROOT).await;
    let node = format!("/api/proxy/nodes/{}", stack.register("gpu-1", &sim).await);
    until("its models are known", || async {
        let tags = get(stack.aivonx.addr, "/api/tags").await;
        tags.text().contains("tiny")
    })
    .await;
    let traffic = Traffic::start(stack.aivonx.addr);
    let pull = json!({"model": "moa"});
    let job = stack.api("POST", "/api/proxy/jobs", pull).await.json();
    let job = format!("/api/proxy/jobs/{}", job["id"]);
    until("the pull is under way", || async {
        stack.api("GET", &job, Value::Null).await.json()["state"] == "running"
    })
    .await;

    let slots = "aivonx_node_slots{model=\"tiny:latest\",node=\"gpu-1\"}";
    let mut revision = stack.aivonx.metric("aivonx_fleet_revision");
    for (by, count) in [("-3h", 3_u32), ("+0", 4), ("+26h", 5)] {
        let before = hour(&stack).await;
        set(&clock, by);
        until("the clock is set", || async {
            hour(&stack).await != before
        })
        .await;
        traffic.flows().await;
        // a token of a time that is not yet, or no more, is none; a login gives another one
        let me = stack.api("GET", "/api/account/me", Value::Null).await;
        assert_eq!(me.status, 401, "{by}: {}", me.text());
        stack.token = log_in(&stack.aivonx, "root", ROOT).await;
        let changed = stack.api("PATCH", &node, json!({ "slots": count })).await;
        assert_eq!(changed.status, 200, "{by}: {}", changed.text());
        stack.aivonx.metric_is(slots, f64::from(count)).await;
        let newer = stack.aivonx.metric("aivonx_fleet_revision");
        assert!(newer > revision, "{by}: {newer} after {revision}");
        revision = newer;
        // a data plane that just reported is not silent, whatever the clocks say
        let planes = stack.api("GET", "/api/proxy/planes", Value::Null).await;
        assert_eq!(planes.json()[0]["stale"], false, "{by}: {}", planes.text());
        traffic.flows().await;
    }
    until("the pull has ended", || async {
        stack.api("GET", &job, Value::Null).await.json()["state"] == "done"
    })
    .await;
    let pulls = sim.requests();
    let pulls = pulls.iter().filter(|request| request.path == "/api/pull");
    assert_eq!(pulls.count(), 1, "nobody took it for left behind");
    traffic.end().await;
}
