//! The API's own description, and the one that is committed.

use crate::support::{Kind, Stack};

/// What people read and generate clients from, without a running server.
const COMMITTED: &str = include_str!("../../../docs/openapi.yaml");

#[tokio::test]
async fn the_committed_document_is_what_is_served() {
    let stack = Stack::start(Kind::Alone).await;
    let served = stack.send("GET", "/api/schema", "", "").await;
    assert_eq!(served.status, 200);
    assert!(
        served.text() == COMMITTED,
        "docs/openapi.yaml is of another state: write it anew with `aivonx openapi > docs/openapi.yaml`"
    );
    let json = stack.send("GET", "/api/schema?format=json", "", "").await;
    assert_eq!(json.json()["openapi"], "3.1.0");
}
