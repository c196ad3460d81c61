//! Who may ask, and what is no order.

use super::{TOKEN, ask, endless, held, node, send};
use crate::support::Setup;

const ORDER: &str = r#"{"model":"moa","node":"n0"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_nobody_may_and_the_answer_says_what_to_set() {
    let a = endless().await;
    let aivonx = Setup::nodes(&[&a]).start().await;
    for (method, path, body) in [
        ("POST", "/probe", r#"{"nodes":[]}"#),
        ("PUT", "/pulls/x", ORDER),
        ("GET", "/pulls/x", ""),
        ("DELETE", "/pulls/x", ""),
    ] {
        let answer = ask(&aivonx, method, path, body).await;
        assert_eq!(answer.status, 403, "{method} {path}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains("set proxy.operations_token"), "{error}");
    }
    assert_eq!(a.count("/api/pull"), 0);
    assert_eq!(aivonx.ops("/readyz").0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_shows_the_token_may() {
    let a = endless().await;
    let aivonx = held(Setup::nodes(&[&a])).start().await;
    for lines in [
        String::new(),
        "Authorization: Bearer what-both-planes-holt\r\n".into(),
        "Authorization: Bearer what-both-planes-hold2\r\n".into(),
        "Authorization: Bearer\r\n".into(),
        "Authorization: Bearer \r\n".into(),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("x-api-key: {TOKEN}\r\n"),
    ] {
        for (method, path, body) in [
            ("POST", "/probe", r#"{"nodes":[]}"#),
            ("PUT", "/pulls/x", ORDER),
            ("GET", "/pulls/x", ""),
            ("DELETE", "/pulls/x", ""),
        ] {
            let answer = send(&aivonx, method, path, &lines, body).await;
            assert_eq!(answer.status, 401, "{method} {path} {lines}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(
                answer.json()["error"]
                    .as_str()
                    .unwrap()
                    .contains("operations_token")
            );
        }
    }
    assert_eq!(a.count("/api/pull"), 0);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(aivonx.ops(path).0, 200, "{path} is as ever");
    }
    assert_eq!(aivonx.ops("/pulls").0, 404);
    assert!(!aivonx.log().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_order_is_refused_with_words() {
    let a = node(1e9).await;
    let aivonx = held(Setup::nodes(&[&a])).start().await;
    let long = format!(r#"{{"nodes":["{}"]}}"#, "x".repeat(64 << 10));
    let long_id = format!("/pulls/{}", "x".repeat(201));
    for (method, path, body, status, words) in [
        ("POST", "/probe", "", 400, "no such order"),
        ("POST", "/probe", "{", 400, "no such order"),
        ("POST", "/probe", "[]", 400, "no such order"),
        ("POST", "/probe", "{}", 400, "missing field `nodes`"),
        (
            "POST",
            "/probe",
            r#"{"nodes":[1]}"#,
            400,
            "expected a string",
        ),
        (
            "POST",
            "/probe",
            r#"{"nodes":[],"x":1}"#,
            400,
            "unknown field `x`",
        ),
        ("POST", "/probe", "\u{0}\u{ff}", 400, "no such order"),
        ("POST", "/probe", long.as_str(), 413, "65536 bytes at most"),
        ("GET", "/probe", "", 405, "only POST here"),
        ("PUT", "/probe", r#"{"nodes":[]}"#, 405, "only POST here"),
        ("POST", "/pulls/x", ORDER, 405, "only PUT, GET, DELETE here"),
        (
            "PUT",
            "/pulls/x",
            r#"{"model":"moa"}"#,
            400,
            "missing field `node`",
        ),
        (
            "PUT",
            "/pulls/x",
            r#"{"model":"a//b","node":"n0"}"#,
            400,
            "invalid model name",
        ),
        (
            "PUT",
            "/pulls/x",
            r#"{"model":"moa","node":"n9"}"#,
            404,
            "node 'n9' is not in the fleet",
        ),
        ("PUT", "/pulls/", ORDER, 400, "an id of a pull"),
        ("PUT", "/pulls/x/y", ORDER, 400, "an id of a pull"),
        ("PUT", long_id.as_str(), ORDER, 400, "an id of a pull"),
        ("GET", "/pulls/x", "", 404, "no pull of this id"),
    ] {
        let answer = ask(&aivonx, method, path, body).await;
        let told = answer.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(answer.status, status, "{method} {path}: {told}");
        assert!(told.contains(words), "{method} {path}: {told}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let method = ask(&aivonx, "GET", "/probe", "").await;
    assert_eq!(method.header("allow"), Some("POST"));
    assert_eq!(a.count("/api/pull"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloud_models_are_not_pulled_while_they_are_denied() {
    let a = node(1e9).await;
    let aivonx = held(Setup::nodes(&[&a])).start().await;
    super::pull(&aivonx, "x", "gpt-oss:120b-cloud", "n0").await;
    let refused = super::ended(&aivonx, "x").await;
    assert_eq!(refused["state"], "error");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("ollama cloud is disabled"),
        "{refused}"
    );
    assert_eq!(a.count("/api/pull"), 0);
}

#[tokio::test]
async fn both_planes_in_one_process_hold_a_token_of_their_own() {
    let aivonx = Setup::serve().start().await;
    let answer = ask(&aivonx, "GET", "/pulls/x", "").await;
    assert_eq!(answer.status, 401, "there is one, and nobody else knows it");
    drop(aivonx);
    let aivonx = Setup::serve().set("OPERATIONS_TOKEN", TOKEN).start().await;
    let answer = ask(&aivonx, "GET", "/pulls/x", "").await;
    assert_eq!(answer.status, 404, "one that is set is kept");
}
