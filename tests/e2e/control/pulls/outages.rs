//! What dies in the middle of a pull, and that two control planes keep to the limits together.

use std::sync::Mutex;

use aivonx_sim::SimNode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{SIZE, has, is_in_state, job, open_pulls, puller, queue};
use crate::support::{Aivonx, Kind, Stack, until};

/// Bytes a second, tenfold: a pull takes about five seconds, and has not ended when something dies.
const SLOW: f64 = 20e6;
/// A pull at this speed ends by no means of its own.
const ENDLESS: f64 = 1e3;

/// Both planes as programs of their own with one node, and a pull there that has got somewhere.
async fn a_pull_under_way(speed: f64) -> (Stack, SimNode, i64) {
    let (stack, node) = (Stack::start(Kind::Many).await, puller(speed).await);
    stack.register("gpu-1", &node).await;
    let id = queue(&stack, json!({"model": "moa"})).await;
    until("the node pulls", || async { open_pulls(&node) == 1 }).await;
    (stack, node, id)
}

async fn bytes(stack: &Stack, id: i64) -> u64 {
    job(stack, id).await["completed"].as_u64().unwrap()
}

/// Follows a job to its end; its bytes never fall. Gives how many it had whenever it was looked at.
async fn ends_well(stack: &Stack, id: i64, before: u64) {
    let seen = Mutex::new(vec![before]);
    until("the job has ended", || async {
        let now = job(stack, id).await;
        seen.lock().unwrap().extend(now["completed"].as_u64());
        ["done", "failed", "cancelled"].contains(&now["state"].as_str().unwrap_or_default())
    })
    .await;
    let seen = seen.into_inner().unwrap();
    let end = job(stack, id).await;
    assert_eq!(end["state"], "done", "{end}");
    assert!(seen.is_sorted(), "progress goes on: {seen:?}");
    assert!(*seen.last().unwrap() >= SIZE, "{end}");
}

fn pulls_through(plane: &Aivonx) -> bool {
    plane.metric("aivonx_store_jobs{route=\"/api/pull\"}") > 0.0
}

/// The stack behind the data plane that does not pull, and the one that does.
async fn two_planes(kind_of_end: &str) -> (Stack, Aivonx, SimNode, i64) {
    let (mut stack, node) = (Stack::start(Kind::Many).await, puller(SLOW).await);
    stack.register("gpu-1", &node).await;
    let mut other = stack.another_plane().await;
    until("both data planes are seen", || async {
        let planes = stack.api("GET", "/api/proxy/planes", Value::Null).await;
        planes.json().as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    let id = queue(&stack, json!({"model": "moa"})).await;
    until(&format!("a pull to be {kind_of_end} goes on"), || async {
        bytes(&stack, id).await > SIZE / 10
    })
    .await;
    if pulls_through(&stack.aivonx) {
        std::mem::swap(&mut stack.aivonx, &mut other);
    }
    assert!(pulls_through(&other) && !pulls_through(&stack.aivonx));
    (stack, other, node, id)
}

#[tokio::test]
async fn a_pull_moves_on_when_its_data_plane_is_killed() {
    let (stack, mut plane, node, id) = two_planes("cut off").await;
    let before = bytes(&stack, id).await;
    plane.kill();
    ends_well(&stack, id, before).await;
    assert!(has(&node, "moa"));
    assert_eq!(node.count("/api/pull"), 2, "once through each");
}

#[tokio::test]
async fn a_pull_moves_on_when_its_data_plane_drains() {
    let (stack, mut plane, node, id) = two_planes("handed over").await;
    let before = bytes(&stack, id).await;
    plane.signal(Signal::SIGTERM);
    until("the other one pulls", || async {
        pulls_through(&stack.aivonx)
    })
    .await;
    assert_eq!(plane.ends().await, Some(0));
    ends_well(&stack, id, before).await;
    assert!(has(&node, "moa"));
    assert_eq!(node.count("/api/pull"), 2, "once through each");
}

#[tokio::test]
async fn both_planes_in_one_process_die_and_come_back() {
    let (mut stack, node) = (Stack::start(Kind::Alone).await, puller(SLOW).await);
    stack.register("gpu-1", &node).await;
    let id = queue(&stack, json!({"model": "moa"})).await;
    until("the pull has got somewhere", || async {
        bytes(&stack, id).await > SIZE / 10
    })
    .await;
    let before = bytes(&stack, id).await;
    stack.aivonx.kill();
    until("the node was left", || async { open_pulls(&node) == 0 }).await;
    assert!(!has(&node, "moa"));
    stack.start_again().await;
    ends_well(&stack, id, before).await;
    assert!(has(&node, "moa"));
    assert_eq!(node.count("/api/pull"), 2, "once in each life");
}

#[tokio::test]
async fn postgres_is_away_while_a_pull_ends() {
    let (stack, node, id) = a_pull_under_way(SLOW).await;
    let apart = stack.apart.as_ref().unwrap();
    apart.postgres.stop().unwrap();
    until("the node has it", || async { has(&node, "moa") }).await;
    apart.postgres.start().unwrap();
    until("the database is used again", || async {
        let path = format!("/api/proxy/jobs/{id}");
        stack.api("GET", &path, Value::Null).await.status == 200
    })
    .await;
    ends_well(&stack, id, 0).await;
    assert_eq!(
        node.count("/api/pull"),
        1,
        "it went on without the database"
    );
}

#[tokio::test]
async fn postgres_comes_back_in_the_middle_of_a_pull_and_a_job_can_be_cancelled() {
    let (stack, node, id) = a_pull_under_way(ENDLESS).await;
    let apart = stack.apart.as_ref().unwrap();
    apart.postgres.stop().unwrap();
    let cancel = format!("/api/proxy/jobs/{id}/cancel");
    let refused = stack.api("POST", &cancel, Value::Null).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    apart.postgres.start().unwrap();
    until("it is cancelled", || async {
        stack.api("POST", &cancel, Value::Null).await.status == 200
    })
    .await;
    is_in_state(&stack, id, "cancelled").await;
    until("the node was left", || async { open_pulls(&node) == 0 }).await;
    assert_eq!(node.count("/api/pull"), 1);
}

#[tokio::test]
async fn a_job_that_was_cancelled_while_its_control_plane_was_dead_stays_so() {
    let (mut stack, node, id) = a_pull_under_way(ENDLESS).await;
    let apart = stack.apart.as_mut().unwrap();
    apart.kill_control();
    let other = apart.another_control();
    let cancel = format!("/api/proxy/jobs/{id}/cancel");
    let asked = stack.api_at(other.at, "POST", &cancel, &Value::Null).await;
    assert_eq!(asked.status, 200, "{}", asked.text());
    assert_eq!(asked.json()["cancel_requested"], true);
    // nobody is there to act on it before the first one is back
    drop(other);
    stack.apart.as_mut().unwrap().restart_control();
    is_in_state(&stack, id, "cancelled").await;
    until("the node was left", || async { open_pulls(&node) == 0 }).await;
    let next = queue(&stack, json!({"model": "kiwi"})).await;
    until("the next one pulls", || async { open_pulls(&node) == 1 }).await;
    let end = job(&stack, id).await;
    assert_eq!(
        (&end["state"], &end["nodes"][0]["status"]),
        (&json!("cancelled"), &json!("cancelled")),
        "{end}"
    );
    assert_eq!(node.count("/api/pull"), 2, "that of each job");
    let cancel = format!("/api/proxy/jobs/{next}/cancel");
    assert_eq!(stack.api("POST", &cancel, Value::Null).await.status, 200);
    is_in_state(&stack, next, "cancelled").await;
}

/// How many control planes ever worked on a job.
fn workers(stack: &Stack) -> usize {
    let asked = "SELECT count(DISTINCT worker) FROM jobs";
    let apart = stack.apart.as_ref().unwrap();
    let told = apart.postgres.sql("test_0", asked).unwrap();
    told.parse().unwrap()
}

async fn open_jobs(stack: &Stack) -> u64 {
    let path = "/api/proxy/jobs?state=queued,running&limit=1";
    let open = stack.api("GET", path, Value::Null).await.json();
    open["count"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_planes_keep_to_the_limits_together() {
    let stack = Stack::start(Kind::Many).await;
    let mut nodes = Vec::new();
    for number in 0..4 {
        let node = puller(200e6).await;
        stack.register(&format!("gpu-{number}"), &node).await;
        nodes.push(node);
    }
    let other = stack.apart.as_ref().unwrap().another_control();
    let mut jobs = Vec::new();
    // whoever looks first claims a job: so many that each has one
    while workers(&stack) < 2 {
        for model in ["moa", "kiwi"] {
            let body = json!({ "model": model });
            let made = stack
                .api_at(other.at, "POST", "/api/proxy/jobs", &body)
                .await;
            jobs.push(made.json()["id"].as_i64().unwrap());
            jobs.push(queue(&stack, body).await);
        }
        assert!(jobs.len() < 200, "one of them claims all");
    }
    let mut most = 0;
    until("all have ended", || {
        let open: Vec<_> = nodes.iter().map(open_pulls).collect();
        let all: usize = open.iter().sum();
        assert!(open.iter().all(|at_one| *at_one <= 1), "{open:?}");
        assert!(all <= 3, "{open:?}");
        most = most.max(all);
        async { open_jobs(&stack).await == 0 }
    })
    .await;
    assert!(most >= 2, "several went on at once");
    for id in jobs {
        assert_eq!(job(&stack, id).await["state"], "done");
    }
}
