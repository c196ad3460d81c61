//! Pull, push, create, copy, delete and blobs change what a node holds.

use std::time::Duration;

use aivonx_sim::{ModelSpec, NodeSpec, RegistrySpec, SimNode};
use serde_json::Value;

use crate::support::client::{Client, exchange, get, post, request};

const GIGABYTE: u64 = 1_000_000_000;

async fn node(speed: f64) -> SimNode {
    let registry = RegistrySpec::serving([ModelSpec::new("moa").size(GIGABYTE)]).speed(speed);
    SimNode::start(NodeSpec::new().registry(registry).time_scale(20.0))
        .await
        .unwrap()
}

fn last_completed(texts: &[String]) -> u64 {
    let lines = texts
        .iter()
        .filter_map(|t| serde_json::from_str::<Value>(t).ok());
    lines
        .filter_map(|l| l["completed"].as_u64())
        .next_back()
        .unwrap_or_default()
}

#[tokio::test]
async fn a_pulled_model_is_there_and_runs_and_can_be_deleted() {
    let node = node(f64::INFINITY).await;
    assert_eq!(
        post(
            node.addr(),
            "/api/pull",
            r#"{"model":"moa","stream":false}"#
        )
        .await
        .body(),
        r#"{"status":"success"}"#
    );
    assert_eq!(node.installed(), ["moa:latest"]);
    assert_eq!(
        post(
            node.addr(),
            "/api/generate",
            r#"{"model":"moa","prompt":"x"}"#
        )
        .await
        .status(),
        200
    );
    let delete = request("DELETE", "/api/delete", r#"{"name":"MOA"}"#);
    assert_eq!(
        exchange(node.addr(), &delete).await.0.unwrap().status(),
        200
    );
    assert!(node.installed().is_empty());
    let missing = post(
        node.addr(),
        "/api/pull",
        r#"{"model":"dodo","stream":false}"#,
    )
    .await;
    assert_eq!(
        (missing.status(), missing.json()["error"].as_str().unwrap()),
        (500, "pull model manifest: file does not exist")
    );
}

#[tokio::test]
async fn two_pulls_share_a_download_and_a_third_resumes_it() {
    // A gigabyte in ten parts at 20 MB/s each: five seconds of node time.
    let node = node(20e6).await;
    let pull = request("POST", "/api/pull", r#"{"model":"moa"}"#);
    let mut first = Client::connect(node.addr()).await.unwrap();
    first.send(&pull).await;
    let progress = |c: &Client| {
        last_completed(
            &crate::support::client::Answer::parse(&c.bytes, false, false)
                .map(|a| a.texts())
                .unwrap_or_default(),
        )
    };
    while progress(&first) < GIGABYTE / 4 {
        first.read().await.unwrap();
    }
    let mut second = Client::connect(node.addr()).await.unwrap();
    second.send(&pull).await;
    while progress(&second) == 0 {
        second.read().await.unwrap();
    }
    assert!(
        progress(&second) >= GIGABYTE / 4,
        "it joined the running download"
    );
    let so_far = progress(&second);
    drop(first);
    drop(second);
    let third = exchange(node.addr(), &pull).await.0.unwrap();
    let first_line: Value = serde_json::from_str(&third.texts()[1]).unwrap();
    assert!(
        first_line["completed"].as_u64().unwrap() >= so_far,
        "what was there was kept"
    );
    assert!(third.body().ends_with("{\"status\":\"success\"}\n"));
    assert_eq!(node.installed(), ["moa:latest"]);
}

#[tokio::test]
async fn create_changes_what_it_is_told_and_pulls_what_is_missing() {
    let node = node(f64::INFINITY).await;
    let body = r#"{"model":"kiwi","from":"moa","system":"Be brief.","parameters":{"num_ctx":1024},"stream":false}"#;
    assert_eq!(post(node.addr(), "/api/create", body).await.status(), 200);
    let shown = post(node.addr(), "/api/show", r#"{"model":"kiwi"}"#)
        .await
        .json();
    assert_eq!(shown["system"], "Be brief.");
    assert!(shown["parameters"].as_str().unwrap().contains("1024"));
    assert_eq!(node.installed(), ["kiwi:latest", "moa:latest"]);
    post(node.addr(), "/api/generate", r#"{"model":"kiwi"}"#).await;
    assert_eq!(
        get(node.addr(), "/api/ps").await.json()["models"][0]["context_length"],
        1024
    );
}

#[tokio::test]
async fn a_copy_has_the_digest_of_its_source_and_shares_its_runner() {
    let node = SimNode::start(NodeSpec::new().model(ModelSpec::new("moa")))
        .await
        .unwrap();
    post(
        node.addr(),
        "/api/copy",
        r#"{"source":"moa","destination":"twin:1"}"#,
    )
    .await;
    let tags = get(node.addr(), "/api/tags").await.json();
    assert_eq!(tags["models"][0]["digest"], tags["models"][1]["digest"]);
    post(node.addr(), "/api/generate", r#"{"model":"moa"}"#).await;
    post(node.addr(), "/api/generate", r#"{"model":"twin:1"}"#).await;
    assert_eq!(node.resident(), ["moa:latest"]);
}

#[tokio::test]
async fn a_model_can_be_made_of_an_uploaded_blob() {
    let node = node(1.0).await;
    let digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"; // of "x"
    let path = format!("/api/blobs/{digest}");
    assert_eq!(
        exchange(node.addr(), &request("HEAD", &path, ""))
            .await
            .0
            .unwrap()
            .status(),
        404
    );
    assert_eq!(post(node.addr(), &path, "x").await.status(), 201);
    assert_eq!(
        exchange(node.addr(), &request("HEAD", &path, ""))
            .await
            .0
            .unwrap()
            .status(),
        200
    );
    let body = format!(r#"{{"model":"own","files":{{"x.gguf":"{digest}"}}}}"#);
    assert!(
        post(node.addr(), "/api/create", &body)
            .await
            .body()
            .contains("success")
    );
    assert_eq!(node.installed(), ["own:latest"]);
}

#[tokio::test]
async fn a_push_tells_its_layers() {
    let registry = RegistrySpec::serving([]);
    let node = SimNode::start(
        NodeSpec::new()
            .model(ModelSpec::new("moa"))
            .registry(registry),
    )
    .await
    .unwrap();
    let pushed = tokio::time::timeout(
        Duration::from_secs(5),
        post(node.addr(), "/api/push", r#"{"model":"moa"}"#),
    )
    .await
    .unwrap();
    assert!(
        pushed.body().contains("pushing manifest")
            && pushed.body().ends_with("{\"status\":\"success\"}\n")
    );
}

#[tokio::test]
async fn a_full_disk_ends_a_pull_and_a_blob_in_the_words_of_the_system() {
    let registry = RegistrySpec::serving([ModelSpec::new("moa").size(GIGABYTE).extra_layers(20)]);
    let node = SimNode::start(NodeSpec::new().registry(registry).disk(GIGABYTE / 2))
        .await
        .unwrap();
    let pull = post(
        node.addr(),
        "/api/pull",
        r#"{"model":"moa","stream":false}"#,
    )
    .await;
    assert_eq!(pull.status(), 500);
    assert!(pull.body().contains("no space left on device"));
    assert!(node.installed().is_empty());
}

#[tokio::test]
async fn a_model_may_have_very_many_layers() {
    let registry = RegistrySpec::serving([ModelSpec::new("moa").size(GIGABYTE).extra_layers(300)]);
    let node = SimNode::start(NodeSpec::new().registry(registry))
        .await
        .unwrap();
    let pull = post(node.addr(), "/api/pull", r#"{"model":"moa"}"#).await;
    assert!(pull.body().ends_with("{\"status\":\"success\"}\n"));
    let tags = get(node.addr(), "/api/tags").await.json();
    assert_eq!(tags["models"][0]["size"], GIGABYTE);
}
