//! What would leave the house.

use super::node;
use crate::support::{Setup, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloud_models_and_web_tools_are_refused_by_name_before_a_node_is_asked() {
    let node = node(&["tiny"]).await;
    let aivonx = Setup::nodes(&[&node]).start().await;
    let before = node.requests().len();
    for (path, body, what) in [
        (
            "/api/chat",
            r#"{"model":"gpt-oss:120b-cloud"}"#,
            "model 'gpt-oss:120b-cloud'",
        ),
        (
            "/api/chat",
            r#"{"model":"gpt-oss:120b:cloud"}"#,
            "model 'gpt-oss:120b:cloud'",
        ),
        (
            "/api/generate",
            r#"{"model":"QWEN3:Cloud"}"#,
            "model 'QWEN3:Cloud'",
        ),
        (
            "/api/show",
            r#"{"name":"qwen3:cloud"}"#,
            "model 'qwen3:cloud'",
        ),
        (
            "/v1/chat/completions",
            r#"{"messages":[],"model":"qwen3:cloud"}"#,
            "model 'qwen3:cloud'",
        ),
        (
            "/api/experimental/web_search",
            r#"{"query":"x"}"#,
            "web search and web fetch",
        ),
        (
            "/api/experimental/web_fetch",
            r#"{"url":"x"}"#,
            "web search and web fetch",
        ),
    ] {
        let answer = post(aivonx.addr, path, body).await;
        assert_eq!(answer.status, 403, "{path} {body}: {}", answer.text());
        let text = format!("ollama cloud is disabled here: {what} was not sent to any node");
        assert!(answer.text().contains(&text), "{}", answer.text());
    }
    let seen = node.requests();
    let probes = ["/", "/api/version", "/api/tags", "/api/ps"];
    let asked: Vec<_> = seen[before..]
        .iter()
        .filter(|seen| !probes.contains(&seen.path.as_str()))
        .collect();
    assert!(asked.is_empty(), "{asked:?}");
    aivonx
        .metric_is("aivonx_rejections_total{reason=\"cloud\"}", 7.0)
        .await;
    // a name that only looks like one is none
    let answer = post(aivonx.addr, "/api/chat", r#"{"model":"my-cloud-model"}"#).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
}
