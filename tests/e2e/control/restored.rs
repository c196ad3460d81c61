//! A database that was put back to an older copy, while data planes hold what it has forgotten.

use serde_json::{Value, json};

use super::node;
use crate::support::{Kind, Stack, get, until};

/// The files of a `serve`'s database, from one folder to another.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    for name in ["aivonx.db", "aivonx.db-wal", "aivonx.db-shm"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn knows(stack: &Stack, name: &str) -> bool {
    stack
        .aivonx
        .ops("/metrics")
        .1
        .contains(&format!("aivonx_node_up{{node=\"{name}\"}}"))
}

#[tokio::test]
async fn a_restored_database_comes_into_force_by_a_new_epoch() {
    let (sim, other) = (node().await, node().await);
    let mut stack = Stack::start(Kind::Alone).await;
    stack.register("kept", &sim).await;
    until("the first node is in force", || async {
        knows(&stack, "kept")
    })
    .await;
    stack.aivonx.kill();
    let data = stack.state().parent().unwrap().to_owned();
    let backup = tempfile::tempdir().unwrap();
    copy(&data, backup.path());

    stack.start_again().await;
    stack.register("forgotten", &other).await;
    until("the second node is in force", || async {
        knows(&stack, "forgotten")
    })
    .await;
    until("its models are known", || async {
        get(stack.aivonx.addr, "/api/tags").await.status == 200
    })
    .await;
    // in force a moment before it is kept
    let kept = stack.state().join("fleet.json");
    until("the data plane has kept it", || async {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("forgotten"))
    })
    .await;
    stack.aivonx.kill();
    copy(backup.path(), &data);
    stack.start_again().await;

    // the database has forgotten the node, and does not overwrite what is newer by itself
    let nodes = stack.api("GET", "/api/proxy/nodes", Value::Null).await;
    assert!(!nodes.text().contains("forgotten"), "{}", nodes.text());
    until("the operator is told", || async {
        stack.aivonx.log().contains("aivonx fleet new-epoch")
    })
    .await;
    assert!(knows(&stack, "forgotten"));

    let begun = stack
        .api("POST", "/api/proxy/fleet/epoch", Value::Null)
        .await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    until("the restored fleet is in force", || async {
        !knows(&stack, "forgotten") && knows(&stack, "kept")
    })
    .await;
    let changed = stack
        .api(
            "PATCH",
            "/api/proxy/config",
            json!({"strategy": "lowest_latency"}),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let audit = stack.api("GET", "/api/proxy/audit", Value::Null).await;
    assert!(audit.text().contains("new_epoch"), "{}", audit.text());
}
