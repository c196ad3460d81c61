//! The API's own description, the one that is committed, and the pages that show it.

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

/// What a page's tags load or lead to.
fn addresses(page: &str) -> Vec<&str> {
    let after = |attribute| {
        page.split(attribute)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
    };
    after(" src=\"").chain(after(" href=\"")).collect()
}

#[tokio::test]
async fn the_pages_load_nothing_from_elsewhere() {
    let stack = Stack::start(Kind::Alone).await;
    let get = async |path: &str| stack.send("GET", path, "", "").await;
    let moved = get("/swagger").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/swagger/"))
    );
    let page = get("/swagger/").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';"), "{policy}");
    let text = page.text();
    let parts = addresses(&text);
    assert!(parts.len() > 5, "{parts:?}");
    for part in parts {
        let name = part.trim_start_matches("./");
        assert!(!name.contains('/'), "{part} is elsewhere");
        assert_eq!(get(&format!("/swagger/{name}")).await.status, 200, "{part}");
    }
    let settings = get("/swagger/swagger-initializer.js").await.text();
    assert!(
        settings.contains(r#""url": "/api/schema?format=json""#)
            && settings.contains(r#""validatorUrl": "none""#),
        "{settings}"
    );

    let page = get("/redoc").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let text = page.text();
    for part in addresses(&text) {
        assert!(part.starts_with('#') || part.starts_with('/'), "{part}");
    }
    let schema = get("/api/schema?format=json").await.json();
    let paths = schema["paths"].as_object().unwrap();
    for path in paths.keys() {
        assert!(text.contains(&format!("<code>{path}</code>")), "{path}");
    }
}
