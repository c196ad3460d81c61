//! Probes on demand.

use aivonx_sim::Fault;
use serde_json::{Value, json};

use super::{endless, held, node, probe};
use crate::support::{Setup, chat, fleet_yaml, get, post, until};

/// With probes that never come by themselves after the first.
fn rarely(setup: Setup) -> Setup {
    held(setup).set("PROBE__INTERVAL", "1h")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_says_what_it_found_of_the_nodes_that_are_named_or_of_all() {
    let (a, b) = (node(1e9).await, node(1e9).await);
    let fleet = fleet_yaml(&[&a], "", "")
        + &format!("  - {{name: off, url: \"{}\", enabled: false}}\n", b.url());
    let aivonx = rarely(Setup::fleet(fleet)).start().await;
    let before = b.count("/");
    let up = json!({"health": "up", "error": null, "version": "0.33.0", "models": ["tiny:latest"]});

    let all = probe(&aivonx, "[]").await;
    assert_eq!(all, json!({"n0": up}), "of those that are enabled");
    assert_eq!(b.count("/"), before);

    let named = probe(&aivonx, r#"["off","n0","n0","nobody"]"#).await;
    assert_eq!(named, json!({"n0": up, "off": up}));
    assert_eq!(probe(&aivonx, r#"["nobody"]"#).await, json!({}));
    let tags = get(aivonx.addr, "/api/tags").await.json();
    assert_eq!(tags["models"].as_array().unwrap().len(), 1);
    let asked = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(
        (asked.status, asked.node()),
        (200, "n0"),
        "one that is off takes nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_counts_as_those_that_come_by_themselves() {
    let a = node(1e9).await;
    let aivonx = rarely(Setup::nodes(&[&a])).start().await;
    a.fault(Fault::Refuse);
    a.refuses().await;

    let once = probe(&aivonx, "[]").await["n0"].clone();
    assert_eq!(once["health"], "up", "the first of two that take it out");
    assert!(
        once["error"].as_str().unwrap().contains("refused"),
        "{once}"
    );
    let twice = probe(&aivonx, "[]").await["n0"].clone();
    assert_eq!(twice["health"], "down");
    assert_eq!(twice["models"], json!(["tiny:latest"]), "as it said last");
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="n0"}"#), 0.0);
    let away = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(away.status, 503, "{}", away.text());

    a.clear_faults();
    until("a probe meets it again", || async {
        probe(&aivonx, "[]").await["n0"]["error"].is_null()
    })
    .await;
    assert_eq!(probe(&aivonx, "[]").await["n0"]["health"], "up");
    let asked = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(asked.status, 200, "{}", asked.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_holds_nobody_up_and_is_given_up() {
    let (a, b) = (node(1e9).await, endless().await);
    let aivonx = rarely(Setup::nodes(&[&a, &b])).start().await;
    b.fault(Fault::Blackhole);

    let found = probe(&aivonx, "[]").await;
    assert_eq!(found["n0"]["error"], Value::Null);
    assert!(found["n1"]["error"].is_string(), "{found}");
    // many askers at once are no more probes of one node at once
    let both = tokio::join!(probe(&aivonx, r#"["n1"]"#), probe(&aivonx, r#"["n1"]"#));
    for found in [both.0, both.1] {
        assert_eq!(found["n1"]["health"], "down");
    }
    b.clear_faults();
    until("a probe brings it back", || async {
        probe(&aivonx, "[]").await["n1"]["health"] == "up"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_reads_what_a_node_has_and_the_next_request_knows() {
    let a = node(1e12).await;
    let aivonx = rarely(Setup::nodes(&[&a])).start().await;
    let beside = post(a.addr(), "/api/pull", r#"{"model":"moa","stream":false}"#).await;
    assert_eq!(beside.status, 200, "{}", beside.text());
    let listed = async || get(aivonx.addr, "/api/tags").await.text();
    assert!(!listed().await.contains("moa"));

    let found = probe(&aivonx, r#"["n0"]"#).await;
    let mut models: Vec<_> = found["n0"]["models"].as_array().unwrap().clone();
    models.sort_by_key(Value::to_string);
    assert_eq!(models, ["moa:latest", "tiny:latest"]);
    until("it is listed", || async { listed().await.contains("moa") }).await;
}
