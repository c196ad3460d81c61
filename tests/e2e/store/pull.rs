//! Pulls on several nodes.

use aivonx_sim::{Fault, FaultScope, ModelSpec, RegistrySpec};
use serde_json::{Value, json};

use super::{SIZE, ask, endless, listed, no_polls, node, send, slow, start, statuses};
use crate::support::{Aivonx, Client, End, Response, Setup, chat, get, json_post, post, until};

/// The last line of an answer.
fn last(answer: &Response) -> Value {
    answer.lines().pop().unwrap()
}

/// Whether the bytes of each layer only ever grew and stayed within their total.
fn is_honest(answer: &Response, nodes: u64) {
    let mut seen = 0;
    for line in answer.lines() {
        let (Some(total), completed) = (line["total"].as_u64(), line["completed"].as_u64()) else {
            continue;
        };
        if !line["digest"].as_str().unwrap().is_empty() && total > 1_000_000 {
            let completed = completed.unwrap_or(0);
            assert!(
                completed <= total && completed >= seen,
                "{line} after {seen}"
            );
            assert!(total <= nodes * SIZE, "{line}");
            seen = completed;
        }
    }
    assert!(seen > 0, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_reaches_every_node_and_the_next_request_knows() {
    let (a, b, c) = (
        start(slow()).await,
        start(slow()).await,
        start(slow()).await,
    );
    let aivonx = no_polls(Setup::nodes(&[&a, &b, &c])).start().await;

    let answer = ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#).await;

    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    is_honest(&answer, 3);
    let said = statuses(&answer);
    assert_eq!(said[0], "pulling manifest", "{said:?}");
    let first = answer
        .lines()
        .into_iter()
        .find(|line| line["total"].is_u64());
    assert!(
        first.unwrap()["total"].as_u64().unwrap() > 2 * SIZE,
        "bytes of all three"
    );
    assert_eq!(
        said[said.len() - 3..],
        ["verifying sha256 digest", "writing manifest", "success"]
    );
    assert_eq!(
        last(&answer)["nodes"],
        json!([{"node":"n0","status":"success"},{"node":"n1","status":"success"},{"node":"n2","status":"success"}])
    );
    for node in [&a, &b, &c] {
        assert!(node.installed().contains(&"moa:latest".to_owned()));
    }
    let chat = post(aivonx.addr, "/api/chat", &chat("moa", 1, false)).await;
    assert_eq!(chat.status, 200, "{}", chat.text());
    assert_eq!(listed(&aivonx).await, ["moa:latest", "tiny:latest"]);
    aivonx
        .metric_is(r#"aivonx_store_jobs{route="/api/pull"}"#, 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_pull_is_known_to_the_next_request_too() {
    let a = start(node()).await;
    let aivonx = no_polls(Setup::nodes(&[&a])).start().await;
    for (model, body) in [
        ("moa", r#"{"model":"moa"}"#),
        ("moa", r#"{"model":"moa","stream":false}"#),
    ] {
        let answer = ask(&aivonx, "/api/pull", body).await;
        assert_eq!((answer.status, answer.node()), (200, "n0"));
        assert!(
            answer.text().ends_with("{\"status\":\"success\"}\n")
                || answer.text() == r#"{"status":"success"}"#
        );
        assert_eq!(listed(&aivonx).await, ["moa:latest", "tiny:latest"]);
        let chat = post(aivonx.addr, "/api/chat", &chat(model, 1, false)).await;
        assert_eq!(chat.status, 200, "{}", chat.text());
        assert_eq!(super::delete(&aivonx, model).await.status, 200);
        assert_eq!(
            listed(&aivonx).await,
            ["tiny:latest"],
            "a delete is known at once"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_updates_the_holders_and_otherwise_goes_where_the_document_says() {
    let (a, b, c) = (
        start(node()).await,
        start(node()).await,
        start(node()).await,
    );
    let has_moa = |node: &aivonx_sim::SimNode| node.installed().contains(&"moa:latest".to_owned());
    let fleet = format!(
        "pull: {{to: {{labels: {{disk: big}}}}}}\nnodes:\n  - {{name: a, url: \"{}\"}}\n  - {{name: b, url: \"{}\", labels: {{disk: big}}}}\n  - {{name: c, url: \"{}\", labels: {{disk: big}}, models: {{exclude: [moa]}}}}\n",
        a.url(),
        b.url(),
        c.url()
    );
    let aivonx = Setup::fleet(fleet).start().await;
    assert_eq!(
        ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#).await.status,
        200
    );
    assert_eq!(
        (has_moa(&a), has_moa(&b), has_moa(&c)),
        (false, true, false)
    );

    let pinned = send(
        aivonx.addr,
        "POST",
        "/api/pull",
        "x-aivonx-node: a\r\n",
        r#"{"name":"moa"}"#,
    )
    .await;
    assert_eq!((pinned.status, pinned.node()), (200, "a"));
    until("both are known to hold it", || async {
        let before = (a.count("/api/pull"), b.count("/api/pull"));
        let again = ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#).await;
        assert_eq!(again.status, 200);
        (a.count("/api/pull"), b.count("/api/pull")) == (before.0 + 1, before.1 + 1)
    })
    .await;
    assert_eq!(c.count("/api/pull"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_or_full_or_dies_is_a_line_and_not_the_end() {
    let (good, full, dying, down) = (
        start(slow()).await,
        start(slow().disk(SIZE)).await,
        start(slow()).await,
        start(node()).await,
    );
    dying.fault_for(
        Fault::ResetMidStream { chunks: 4 },
        FaultScope::always().path("/api/pull"),
    );
    down.stop().await;
    let aivonx = Setup::nodes(&[&good, &full, &dying, &down]).start().await;
    aivonx.metric_is(r#"aivonx_node_up{node="n3"}"#, 0.0).await;
    for stream in [true, false] {
        let body = format!(r#"{{"model":"moa","stream":{stream}}}"#);
        // the first pull is for all; the second would be for the holder alone
        let answer = if stream {
            ask(&aivonx, "/api/pull", &body).await
        } else {
            assert_eq!(super::delete(&aivonx, "moa").await.status, 200);
            ask(&aivonx, "/api/pull", &body).await
        };
        assert_eq!(answer.status, 200, "{}", answer.text());
        let end = last(&answer);
        assert_eq!(end["status"], "success");
        let error = |node: usize| end["nodes"][node]["error"].as_str().unwrap().to_owned();
        assert_eq!(end["nodes"][0], json!({"node":"n0","status":"success"}));
        assert!(error(1).ends_with("no space left on device"), "{end}");
        assert_eq!(error(2), "connection broke off");
        assert_eq!(error(3), "it is down");
        if stream {
            is_honest(&answer, 4);
            let lines = answer.lines();
            assert!(
                lines.iter().all(|line| line.get("error").is_none()),
                "a library would raise"
            );
            let told: Vec<_> = lines
                .iter()
                .filter_map(|line| line["node"].as_str())
                .collect();
            assert_eq!(told.len(), 3, "{told:?}");
            let summary = lines[lines.len() - 2]["status"]
                .as_str()
                .unwrap()
                .to_owned();
            assert!(
                summary.starts_with("on 1 of 4 nodes; not on n1: "),
                "{summary}"
            );
        } else {
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(aivonx.access_line(id).await["outcome"], "partial");
    }
    dying.clear_faults();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_node_can_have_it_the_error_is_ollamas_own() {
    let (a, b) = (start(node()).await, start(node()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let once = ask(&aivonx, "/api/pull", r#"{"model":"nosuch","stream":false}"#).await;
    assert_eq!(once.status, 500);
    assert_eq!(
        once.json()["error"],
        "pull model manifest: file does not exist"
    );
    let lines = ask(&aivonx, "/api/pull", r#"{"model":"nosuch"}"#).await;
    assert_eq!((lines.status, lines.end), (200, End::Complete));
    assert_eq!(
        last(&lines)["error"],
        "pull model manifest: file does not exist"
    );
    let id = lines.header("x-request-id").unwrap();
    assert_eq!(aivonx.access_line(id).await["outcome"], "error");
    let refused = |node: &aivonx_sim::SimNode| {
        let fault = Fault::Status {
            code: 503,
            message: Some("busy".into()),
        };
        node.fault_for(fault, FaultScope::always().path("/api/pull"));
    };
    refused(&a);
    refused(&b);
    let busy = ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#).await;
    assert_eq!(
        (busy.status, busy.json()["error"].as_str()),
        (503, Some("busy"))
    );
    a.clear_faults();
    let mixed = ask(&aivonx, "/api/pull", r#"{"model":"nosuch","stream":false}"#).await;
    assert_eq!(
        (mixed.status, mixed.json()["error"].as_str()),
        (
            502,
            Some("n0: pull model manifest: file does not exist; n1: busy")
        )
    );
    a.stop().await;
    b.stop().await;
    aivonx.metric_is(r#"aivonx_node_up{node="n0"}"#, 0.0).await;
    aivonx.metric_is(r#"aivonx_node_up{node="n1"}"#, 0.0).await;
    let none = ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#).await;
    assert_eq!((none.status, none.header("retry-after")), (503, Some("5")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_a_nodes_own_words() {
    let (a, b) = (start(node()).await, start(node()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    for (path, body, status, error) in [
        ("/api/pull", "", 400, "missing request body"),
        (
            "/api/pull",
            r#"{"model":"a//b"}"#,
            400,
            "invalid model name",
        ),
        (
            "/api/create",
            r#"{"model":"x"}"#,
            400,
            "neither 'from' or 'files' was specified",
        ),
        (
            "/api/copy",
            r#"{"source":"nosuch","destination":"x"}"#,
            404,
            "model \"nosuch\" not found",
        ),
        ("/api/push", r#"{"model":""}"#, 400, "model is required"),
    ] {
        let answer = ask(&aivonx, path, body).await;
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (status, Some(error)),
            "{path} {body}"
        );
    }
    let missing = super::delete(&aivonx, "nosuch").await;
    assert_eq!(
        (missing.status, missing.json()["error"].as_str()),
        (404, Some("model 'nosuch' not found"))
    );
    let nobody = send(
        aivonx.addr,
        "POST",
        "/api/pull",
        "x-aivonx-node: gpu-9\r\n",
        r#"{"model":"moa"}"#,
    )
    .await;
    assert_eq!(
        (nobody.status, nobody.json()["error"].as_str()),
        (404, Some("node 'gpu-9' is not in the fleet"))
    );
    let me = ask(&aivonx, "/api/me", "").await;
    assert_eq!(me.status, 403, "a node's identity is not for clients");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_rules_leave_no_node_the_answer_says_so() {
    let (a, b) = (start(node()).await, start(node()).await);
    let aivonx = Setup::nodes_with(&[&a, &b], ", models: {exclude: [moa]}", "")
        .start()
        .await;
    let answer = ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .contains("no node may have model 'moa:latest'")
    );
    assert_eq!(a.count("/api/pull") + b.count("/api/pull"), 0);
}

/// Starts a pull and waits for its first line.
async fn begin(aivonx: &Aivonx, model: &str) -> (Client, Response) {
    let mut client = Client::connect(aivonx.addr).await;
    let body = format!(r#"{{"model":"{model}"}}"#);
    client
        .send(json_post(aivonx.addr, "/api/pull", &body))
        .await;
    let mut answer = client.head().await.unwrap();
    assert!(client.chunk(&mut answer).await);
    (client, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_nodes_pull_at_once_and_who_waits_is_told() {
    let (a, b) = (start(endless()).await, start(endless()).await);
    let aivonx = Setup::nodes_with(&[&a, &b], "", "pull: {at_once: 1}")
        .start()
        .await;
    let (first, answer) = begin(&aivonx, "moa").await;
    assert_eq!(statuses(&answer)[0], "pulling manifest");
    let (second, waiting) = begin(&aivonx, "moa").await;
    assert_eq!(statuses(&waiting)[0], "waiting for other pulls to end");
    assert_eq!(a.count("/api/pull") + b.count("/api/pull"), 1);
    assert_eq!(
        aivonx.metric(r#"aivonx_store_jobs{route="/api/pull"}"#),
        2.0
    );
    drop(first);
    until("the second has its turn", || async {
        a.count("/api/pull") + b.count("/api/pull") == 2
    })
    .await;
    drop(second);
    aivonx
        .metric_is(r#"aivonx_store_jobs{route="/api/pull"}"#, 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_on_one_node_have_their_turns_too() {
    let (a, b) = (start(endless()).await, start(endless()).await);
    let aivonx = Setup::nodes_with(&[&a, &b], "", "pull: {at_once: 1, to: {count: 1}}")
        .start()
        .await;
    let (first, answer) = begin(&aivonx, "moa").await;
    assert_eq!(statuses(&answer)[0], "pulling manifest");
    assert_eq!(
        answer.node(),
        "n0",
        "relayed: of two that are equally empty the first by name"
    );
    let (second, waiting) = begin(&aivonx, "moa").await;
    assert_eq!(statuses(&waiting)[0], "waiting for other pulls to end");
    assert_eq!((a.count("/api/pull"), b.count("/api/pull")), (1, 0));
    drop(first);
    until("the second has its turn", || async {
        a.count("/api/pull") == 2
    })
    .await;
    drop(second);
    aivonx
        .metric_is(r#"aivonx_store_jobs{route="/api/pull"}"#, 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pulls_of_one_model_at_once_both_end_well() {
    let (a, b) = (start(slow()).await, start(slow()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let (one, two) = tokio::join!(
        ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#),
        ask(&aivonx, "/api/pull", r#"{"model":"moa"}"#)
    );
    for answer in [one, two] {
        assert_eq!(last(&answer)["status"], "success", "{}", answer.text());
        is_honest(&answer, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_of_ten_thousand_layers_costs_a_bounded_amount() {
    let registry =
        || RegistrySpec::serving([ModelSpec::new("many").size(SIZE).extra_layers(10_000)]);
    let (a, b) = (
        start(node().registry(registry())).await,
        start(node().registry(registry())).await,
    );
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    // nothing is written but at ticks, and no line twice in one
    let answer = ask(&aivonx, "/api/pull", r#"{"model":"many"}"#).await;
    assert_eq!(last(&answer)["status"], "success");
    let before = aivonx.rss();
    for _ in 0..3 {
        let answer = ask(&aivonx, "/api/pull", r#"{"model":"many"}"#).await;
        assert_eq!(last(&answer)["status"], "success");
        assert!(answer.lines().len() < 40_000, "{}", answer.lines().len());
    }
    let grown = aivonx.rss().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    assert_eq!(get(aivonx.addr, "/api/version").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_dark_in_a_pull_is_given_up() {
    let (a, b) = (start(slow()).await, start(endless()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let (mut client, mut answer) = begin(&aivonx, "moa").await;
    b.fault(Fault::Blackhole);
    while client.chunk(&mut answer).await {}
    let end = last(&answer);
    assert_eq!(end["nodes"][0]["status"], "success");
    assert_eq!(end["nodes"][1]["error"], "it stopped answering");
}
