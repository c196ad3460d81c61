//! `x-aivonx-node` on what aivonx answers itself: the named node alone, for those who may manage.

use super::{ask, bearer, key, node};
use crate::support::{Setup, until, warm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_the_version_are_of_the_node_that_is_named() {
    let (a, b) = (
        node(&["tiny", "small"]).await,
        node(&["tiny", "large"]).await,
    );
    let document = format!(
        "keys:\n{}{}{}",
        key("infer", ""),
        key("manage", ", scopes: [manage]"),
        key("both", ", scopes: [infer, manage]")
    );
    let aivonx = Setup::nodes_with(&[&a, &b], "", &document).start().await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    let pinned = async |id: &str, name: &str, path: &str| {
        let headers = format!("{}X-Aivonx-Node: {name}\r\n", bearer(id));
        ask(aivonx.addr, &headers, "GET", path, "").await
    };
    let tags = pinned("both", "n1", "/api/tags").await;
    assert_eq!((tags.status, tags.node()), (200, "n1"));
    assert!(tags.text().contains("large") && !tags.text().contains("small"));
    let models = pinned("both", "n0", "/v1/models").await;
    assert!(models.text().contains("small") && !models.text().contains("large"));
    let ps = pinned("both", "n1", "/api/ps").await.json();
    assert_eq!(ps["models"][0]["running_on"], serde_json::json!(["n1"]));
    for (id, name, path, want) in [
        ("both", "n0", "/v1/models/small", 200),
        ("both", "n1", "/v1/models/small", 404),
        ("both", "n0", "/api/version", 200),
        ("manage", "n0", "/api/version", 200),
        ("infer", "n0", "/api/version", 403),
        ("infer", "n0", "/api/ps", 403),
        ("manage", "n0", "/api/ps", 403),
        ("both", "nosuch", "/api/ps", 404),
        ("both", "nosuch", "/api/version", 404),
        ("both", "N0", "/api/tags", 404),
    ] {
        let answer = pinned(id, name, path).await;
        assert_eq!(answer.status, want, "{id} {name} {path}: {}", answer.text());
    }
    let open = ask(aivonx.addr, &bearer("infer"), "GET", "/api/version", "").await;
    assert_eq!(open.status, 200);
    b.stop().await;
    until("it is known to be away", || async {
        pinned("both", "n1", "/api/tags").await.status == 503
    })
    .await;
}
