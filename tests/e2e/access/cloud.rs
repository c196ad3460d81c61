//! What would leave the house.

use aivonx_sim::{Account, ModelSpec, NodeSpec, SimNode};

use super::node;
use crate::support::{Aivonx, Setup, chat, get, post};

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
            "/v1/responses",
            r#"{"model":"tiny","input":"x","tools":[{"type":"web_search"}]}"#,
            "a request with the tool 'web_search'",
        ),
        (
            "/v1/messages",
            r#"{"model":"tiny","max_tokens":1,"messages":[],"Tools":[{"type":"web\u005fsearch_20250305"}]}"#,
            "a request with the tool 'web_search_20250305'",
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
        .metric_is("aivonx_rejections_total{reason=\"cloud\"}", 9.0)
        .await;
    // a name that only looks like one is none
    let answer = post(aivonx.addr, "/api/chat", r#"{"model":"my-cloud-model"}"#).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
}

/// Two nodes that list a cloud model, one of them signed in.
async fn with_accounts() -> (SimNode, SimNode, Aivonx) {
    let spec = || {
        NodeSpec::new().model(ModelSpec::new("tiny")).model(
            ModelSpec::new("gpt-oss:120b-cloud").remote("gpt-oss:120b", "https://ollama.com:443"),
        )
    };
    let (out, signed_in) = (
        SimNode::start(spec().account(Account::SignedOut))
            .await
            .unwrap(),
        SimNode::start(spec().account(Account::SignedIn))
            .await
            .unwrap(),
    );
    let aivonx = Setup::nodes_with(&[&out, &signed_in], "", "cloud: allow")
        .start()
        .await;
    aivonx
        .metric_is("aivonx_node_signed_in{node=\"n1\"}", 1.0)
        .await;
    (out, signed_in, aivonx)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_leave_the_house_does_so_through_nodes_that_are_signed_in() {
    let (_out, signed_in, aivonx) = with_accounts().await;
    for _ in 0..6 {
        for (path, body) in [
            ("/api/chat", chat("gpt-oss:120b-cloud", 3, false)),
            ("/api/chat", chat("qwen3:cloud", 3, false)),
            (
                "/api/experimental/web_search",
                r#"{"query":"x"}"#.to_owned(),
            ),
        ] {
            let answer = post(aivonx.addr, path, &body).await;
            assert_eq!(
                (answer.status, answer.node()),
                (200, "n1"),
                "{path}: {}",
                answer.text()
            );
        }
    }
    signed_in.set_account(Account::SignedOut);
    aivonx
        .metric_is("aivonx_node_signed_in{node=\"n1\"}", 0.0)
        .await;
    let answer = post(aivonx.addr, "/api/chat", &chat("qwen3:cloud", 3, false)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(!answer.text().contains("signin_url"), "{}", answer.text());
    assert!(
        answer.text().contains("no node in service is signed in"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_model_that_nodes_list_is_not_there_while_it_is_denied() {
    let (out, signed_in, allowing) = with_accounts().await;
    let denying = Setup::nodes(&[&out, &signed_in]).start().await;
    let names = async |aivonx: &Aivonx| get(aivonx.addr, "/api/tags").await.text();
    assert!(names(&allowing).await.contains("gpt-oss:120b-cloud"));
    let listed = names(&denying).await;
    assert!(
        listed.contains("tiny") && !listed.contains("gpt-oss"),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_nodes_only_pass_on_is_not_spread_while_it_is_denied() {
    let spec = || {
        let stub = ModelSpec::new("stub:1").remote("gpt-oss:120b", "https://ollama.com:443");
        NodeSpec::new().model(ModelSpec::new("tiny")).model(stub)
    };
    let (a, b) = (
        SimNode::start(spec()).await.unwrap(),
        SimNode::start(spec()).await.unwrap(),
    );
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    for pin in ["", "X-Aivonx-Node: n1\r\n"] {
        for (path, body, what) in [
            (
                "/api/create",
                r#"{"model":"y","from":"stub:1"}"#,
                "model 'stub:1'",
            ),
            (
                "/api/create",
                r#"{"model":"y","FROM":"Stub:1","stream":false}"#,
                "model 'Stub:1'",
            ),
            (
                "/api/copy",
                r#"{"source":"stub:1","destination":"y"}"#,
                "model 'stub:1'",
            ),
            ("/api/pull", r#"{"name":"stub:1"}"#, "model 'stub:1'"),
            (
                "/api/create",
                r#"{"model":"y","from":"tiny","remote_host":"http://10.0.0.9:11434"}"#,
                "a model of another host",
            ),
        ] {
            let answer = super::ask(aivonx.addr, pin, "POST", path, body).await;
            assert_eq!(answer.status, 403, "{path} {body}: {}", answer.text());
            let text = format!("ollama cloud is disabled here: {what} was not sent to any node");
            assert_eq!(answer.json()["error"], text.as_str());
            assert_eq!((a.count(path), b.count(path)), (0, 0), "{path} {body}");
        }
    }
    let made = post(aivonx.addr, "/api/create", r#"{"model":"y","from":"tiny"}"#).await;
    assert_eq!(made.lines().pop().unwrap()["status"], "success");
    // what is there may go
    let delete = r#"{"model":"stub:1"}"#;
    let gone = super::ask(aivonx.addr, "", "DELETE", "/api/delete", delete).await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert!(!a.installed().contains(&"stub:1".to_owned()));
}
