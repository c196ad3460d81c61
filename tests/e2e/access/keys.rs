//! How a key is presented, what a refusal says, and what a node sees of it all.

use base64::Engine as _;

use super::matrix::start;
use super::{bearer, key, node};
use crate::support::{Client, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_counts_where_clients_put_it_and_nowhere_else() {
    let node = node(&["tiny"]).await;
    let aivonx = start(&node, "never").await;
    let basic = base64::engine::general_purpose::STANDARD.encode("ann:secret-infer");
    let user = base64::engine::general_purpose::STANDARD.encode("secret-infer:");
    let places = [
        (200, "Authorization: Bearer secret-infer".to_owned()),
        (200, "authorization: bearer secret-infer".to_owned()),
        (200, "X-Api-Key: secret-infer".to_owned()),
        (200, format!("Authorization: Basic {basic}")),
        (
            200,
            "Authorization: Bearer dummy\r\nX-Api-Key: secret-infer".to_owned(),
        ),
        (401, format!("Authorization: Basic {user}")),
        (401, "Authorization: secret-infer".to_owned()),
        (401, "Authorization: Token secret-infer".to_owned()),
        (401, "Proxy-Authorization: Bearer secret-infer".to_owned()),
        (401, "Cookie: key=secret-infer".to_owned()),
        (401, "Api-Key: secret-infer".to_owned()),
        (401, "X-Request-Id: secret-infer".to_owned()),
        (401, format!("X-Api-Key: {}", super::sha256("secret-infer"))),
        (401, "X-Api-Key: secret-infer2".to_owned()),
        (401, "X-Api-Key: secret-infe".to_owned()),
        (401, "X-Api-Key:".to_owned()),
    ];
    for (want, place) in places {
        let answer = super::ask(aivonx.addr, &format!("{place}\r\n"), "GET", "/api/tags", "").await;
        assert_eq!(answer.status, want, "{place}");
    }
    for path in [
        "/api/tags?key=secret-infer",
        "/api/tags?api_key=secret-infer",
    ] {
        assert_eq!(
            super::ask(aivonx.addr, "", "GET", path, "").await.status,
            401
        );
    }
    let log = aivonx.log();
    assert!(!log.contains("secret-"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_speaks_the_dialect_of_its_path_and_says_how_to_present_a_key() {
    let node = node(&["tiny"]).await;
    let aivonx = start(&node, "never").await;
    let text = "an API key is needed: send it as `Authorization: Bearer` or `x-api-key`";
    for (path, message, kind) in [
        ("/api/chat", "/error", None),
        (
            "/v1/chat/completions",
            "/error/message",
            Some("authentication_error"),
        ),
        (
            "/v1/messages",
            "/error/message",
            Some("authentication_error"),
        ),
    ] {
        let body = super::chat("tiny");
        let answer = super::ask(aivonx.addr, "", "POST", path, &body).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"aivonx\"")
        );
        assert_eq!(answer.json().pointer(message).unwrap(), text, "{path}");
        let found = answer.json();
        assert_eq!(
            found.pointer("/error/type").and_then(|kind| kind.as_str()),
            kind
        );
    }
    let expired = super::ask(aivonx.addr, &bearer("expired"), "GET", "/api/tags", "").await;
    assert_eq!(expired.json()["error"], "the API key `expired` has expired");
    assert_eq!(
        node.requests()
            .iter()
            .filter(|seen| seen.path == "/api/chat")
            .count(),
        0
    );
    aivonx
        .metric_is("aivonx_rejections_total{reason=\"no_key\"}", 3.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sees_neither_key_nor_user() {
    let node = node(&["tiny"]).await;
    let document = format!("keys:\n{}", key("ui", ", user_header: X-User-Email"));
    let aivonx = Setup::nodes_with(&[&node], "", &document).start().await;
    let headers = format!(
        "{}X-Api-Key: secret-ui\r\nX-User-Email: ann@example.com\r\nX-Request-Id: who-1\r\n",
        bearer("ui")
    );
    let answer = super::ask(
        aivonx.addr,
        &headers,
        "POST",
        "/api/chat",
        &super::chat("tiny"),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = crate::support::last_chat(&node);
    let text = format!("{seen:?}").to_lowercase();
    for secret in ["secret-ui", "ann@example.com", "authorization", "x-api-key"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let line = aivonx.access_line("who-1").await;
    assert_eq!(
        (&line["key"], &line["user"]),
        (&"ui".into(), &"ann@example.com".into())
    );
    assert_eq!(aivonx.metric("aivonx_key_requests_total{key=\"ui\"}"), 1.0);
    assert_eq!(
        aivonx.metric("aivonx_key_tokens_total{key=\"ui\",kind=\"output\"}"),
        3.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_needs_a_key_or_an_allowed_host_and_always_an_allowed_origin() {
    let node = node(&["tiny"]).await;
    let aivonx = start(&node, "loopback").await;
    let with = async |key: &str, host: &str, origin: &str, method: &str| {
        let mut client = Client::connect(aivonx.addr).await;
        let preflight = if method == "OPTIONS" {
            "Access-Control-Request-Method: GET\r\n"
        } else {
            ""
        };
        client
            .send(format!(
                "{method} /api/tags HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{preflight}{key}\r\n"
            ))
            .await;
        let answer = client.response().await;
        (
            answer.status,
            answer
                .header("access-control-allow-origin")
                .map(str::to_owned),
        )
    };
    let (near, far) = ("http://localhost:3000", "https://evil.example.com");
    let named = Some(near.to_owned());
    let key = bearer("infer");
    assert_eq!(
        with("", "localhost", near, "GET").await,
        (200, named.clone())
    );
    assert_eq!(
        with("", "rebound.example.com", near, "GET").await,
        (403, None)
    );
    assert_eq!(
        with(&key, "ai.example.com", near, "GET").await,
        (200, named.clone())
    );
    assert_eq!(with(&key, "localhost", far, "GET").await, (403, None));
    assert_eq!(
        with("", "ai.example.com", near, "OPTIONS").await,
        (204, named)
    );
    assert_eq!(with("", "localhost", far, "OPTIONS").await, (403, None));
}
