//! Which nodes are signed in at ollama.com: asked where cloud models are allowed, and only there.

use aivonx_sim::{Account, SimNode};

use super::tiny;
use crate::support::{Setup, until};

fn fleet(nodes: &[&SimNode], cloud: &str) -> String {
    crate::support::fleet_yaml(nodes, "", cloud)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_asked_for_their_account_only_where_cloud_models_are_allowed() {
    let (a, b) = (
        SimNode::start(tiny().account(Account::SignedIn))
            .await
            .unwrap(),
        SimNode::start(tiny().account(Account::SignedOut))
            .await
            .unwrap(),
    );
    let aivonx = Setup::fleet(fleet(&[&a, &b], "")).start().await;
    let polls = a.count("/api/tags");
    until("the inventory is read again", || async {
        a.count("/api/tags") > polls + 2
    })
    .await;
    assert_eq!(
        a.count("/api/me") + b.count("/api/me"),
        0,
        "denied by default"
    );

    aivonx.write_fleet(&fleet(&[&a, &b], "cloud: allow"));
    let (of_a, of_b) = (
        r#"aivonx_node_signed_in{node="n0"}"#,
        r#"aivonx_node_signed_in{node="n1"}"#,
    );
    aivonx.metric_is(of_a, 1.0).await;
    until("b was asked", || async { b.count("/api/me") > 0 }).await;
    assert_eq!(aivonx.metric(of_b), 0.0);

    b.set_account(Account::SignedIn);
    aivonx.metric_is(of_b, 1.0).await;
    a.set_account(Account::Unreachable);
    aivonx.metric_is(of_a, 0.0).await;

    aivonx.write_fleet(&fleet(&[&a, &b], "cloud: deny"));
    aivonx.metric_is(of_b, 0.0).await;
    let (asked, polls) = (b.count("/api/me"), b.count("/api/tags"));
    until("the inventory is read again", || async {
        b.count("/api/tags") > polls + 2
    })
    .await;
    assert!(
        b.count("/api/me") <= asked + 1,
        "one may have been on its way"
    );
}
