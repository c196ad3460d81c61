//! The account at ollama.com and the models that run there.

use aivonx_sim::{Account, ModelSpec, NodeSpec, SimNode};

use crate::support::client::{get, post};

const HOST: &str = "https://ollama.com:443";

async fn node(account: Account) -> SimNode {
    let spec = NodeSpec::new()
        .account(account)
        .model(ModelSpec::new("local"))
        .model(ModelSpec::new("stub").remote("gpt-oss:120b", HOST));
    SimNode::start(spec).await.unwrap()
}

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]}}"#)
}

#[tokio::test]
async fn a_node_says_how_it_stands_with_its_account() {
    let node = node(Account::SignedIn).await;
    let me = post(node.addr(), "/api/me", "{}").await;
    assert_eq!((me.status(), &me.json()["name"]), (200, &"sim".into()));

    let out = post(node.addr(), "/api/signout", "{}").await;
    assert_eq!((out.status(), out.body().as_str()), (200, "null"));
    let me = post(node.addr(), "/api/me", "{}").await;
    assert_eq!(me.status(), 401);
    assert!(me.json()["signin_url"].is_string(), "{}", me.body());

    node.set_account(Account::Unreachable);
    let me = post(node.addr(), "/api/me", "{}").await;
    assert_eq!(
        (me.status(), me.body().as_str()),
        (503, r#"{"error":"account unavailable"}"#)
    );
}

#[tokio::test]
async fn a_stub_is_listed_with_where_it_runs_and_its_answers_say_so() {
    let node = node(Account::SignedIn).await;
    let tags = get(node.addr(), "/api/tags").await.json();
    let rows = tags["models"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row("stub:latest")["remote_model"], "gpt-oss:120b");
    assert_eq!(row("stub:latest")["remote_host"], HOST);
    assert!(row("local:latest").get("remote_model").is_none());

    let answer = post(node.addr(), "/api/chat", &chat("stub")).await;
    assert_eq!(answer.status(), 200);
    for line in answer.body().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["remote_model"], "gpt-oss:120b", "{line}");
        assert_eq!(line["remote_host"], HOST);
    }
    assert!(node.resident().is_empty(), "it runs elsewhere");
    let local = post(node.addr(), "/api/chat", &chat("local")).await;
    assert!(!local.body().contains("remote_"), "{}", local.body());
}

#[tokio::test]
async fn cloud_models_answer_where_the_node_is_signed_in_and_only_there() {
    let node = node(Account::SignedIn).await;
    for model in ["gpt-oss:120b-cloud", "stub"] {
        node.set_account(Account::SignedIn);
        assert_eq!(
            post(node.addr(), "/api/chat", &chat(model)).await.status(),
            200
        );
        assert_eq!(
            post(node.addr(), "/v1/chat/completions", &chat(model))
                .await
                .status(),
            200
        );
        for (account, status) in [(Account::SignedOut, 401), (Account::Unreachable, 502)] {
            node.set_account(account);
            for path in ["/api/chat", "/v1/chat/completions"] {
                let answer = post(node.addr(), path, &chat(model)).await;
                assert_eq!(answer.status(), status, "{path}");
                assert!(answer.json()["error"].is_string(), "native on every path");
                assert_eq!(answer.json().get("signin_url").is_some(), status == 401);
            }
        }
    }
    let local = post(node.addr(), "/api/chat", &chat("stub:local")).await;
    assert_eq!(local.status(), 404, "a stub is nothing local");
}
