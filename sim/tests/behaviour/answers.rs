//! Answers are computed: other models, other requests, every capability in every dialect.

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use serde_json::Value;

use crate::support::client::{Answer, Client, exchange, get, post, request};

const LAST_LINE: &str = "a last line";

async fn zoo() -> SimNode {
    let all = ["completion", "tools", "thinking", "vision", "insert"];
    let mut owl = ModelSpec::embedding("forest/owl:v2");
    owl.details.embedding_length = 8;
    let spec = NodeSpec::new()
        .model(ModelSpec::new("zebra").size(77))
        .model(owl)
        .version("1.2.3");
    SimNode::start(spec.model(ModelSpec::new("lion:7b").capabilities(all)))
        .await
        .unwrap()
}

#[tokio::test]
async fn another_store_is_shown_as_it_is() {
    let node = zoo().await;
    let tags = get(node.addr(), "/api/tags").await.json();
    let names: Vec<&str> = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["forest/owl:v2", "lion:7b", "zebra:latest"]);
    assert_eq!(tags["models"][2]["size"], 77);
    assert_eq!(
        get(node.addr(), "/v1/models").await.json()["data"][0]["owned_by"],
        "forest"
    );
    assert_eq!(
        get(node.addr(), "/api/version").await.body(),
        r#"{"version":"1.2.3"}"#
    );
    let shown = post(node.addr(), "/api/show", r#"{"model":"ZEBRA"}"#)
        .await
        .json();
    assert!(
        shown["modelfile"]
            .as_str()
            .unwrap()
            .contains("# FROM zebra:latest\n")
    );
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn errors_follow_the_request() {
    let node = zoo().await;
    for (path, body, status, text) in [
        (
            "/api/chat",
            r#"{"model":"gnu"}"#,
            404,
            "model 'gnu' not found",
        ),
        (
            "/api/embed",
            r#"{"model":"gnu:1b"}"#,
            404,
            r#"model "gnu:1b" not found, try pulling it first"#,
        ),
        (
            "/api/show",
            r#"{"model":"herd/gnu"}"#,
            404,
            "model 'herd/gnu:latest' not found",
        ),
        (
            "/api/show",
            r#"{"verbose":"x"}"#,
            400,
            "json: cannot unmarshal string into Go struct field ShowRequest.verbose of type bool",
        ),
        (
            "/api/generate",
            r#"{"prompt":[1]}"#,
            400,
            "json: cannot unmarshal array into Go struct field GenerateRequest.prompt of type string",
        ),
        (
            "/api/chat",
            "{\"model\":\"zebra\",\n!",
            400,
            "invalid character '!' looking for beginning of object key string",
        ),
        (
            "/api/generate",
            r#"{"model":"zebra","prompt":"x","options":{"stop":"x"}}"#,
            500,
            r#"option "stop" must be of type array"#,
        ),
        (
            "/api/generate",
            r#"{"model":"zebra","prompt":"x","options":{"use_mmap":1}}"#,
            500,
            r#"option "use_mmap" must be of type boolean"#,
        ),
        (
            "/api/chat",
            r#"{"model":"zebra","messages":[{"role":"user","content":"x"}],"think":"low"}"#,
            400,
            r#""zebra" does not support thinking"#,
        ),
        (
            "/api/chat",
            r#"{"model":"zebra","messages":[],"keep_alive":"1x"}"#,
            400,
            r#"time: unknown unit "x" in duration "1x""#,
        ),
        (
            "/api/generate",
            r#"{"model":"forest/owl:v2","prompt":"x"}"#,
            400,
            r#""forest/owl:v2" does not support generate"#,
        ),
        (
            "/api/copy",
            r#"{"source":"zebra","destination":"a//b"}"#,
            400,
            r#"destination "a//b" is invalid"#,
        ),
        (
            "/api/push",
            r#"{"model":"x/y/"}"#,
            500,
            "unqualified name: x/y/!MISSING!:latest",
        ),
    ] {
        let answer = post(node.addr(), path, body).await;
        assert_eq!(
            (answer.status(), answer.json()["error"].as_str().unwrap()),
            (status, text),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn the_same_question_gets_the_same_answer_and_another_seed_another() {
    let node = zoo().await;
    let ask = |seed: u32| {
        let body = format!(
            r#"{{"model":"zebra","prompt":"why","stream":false,"options":{{"seed":{seed}}}}}"#
        );
        async move { body }
    };
    let said = |a: Answer| a.json()["response"].as_str().unwrap().to_owned();
    let first = said(post(node.addr(), "/api/generate", &ask(1).await).await);
    assert_eq!(
        first,
        said(post(node.addr(), "/api/generate", &ask(1).await).await)
    );
    assert_ne!(
        first,
        said(post(node.addr(), "/api/generate", &ask(2).await).await)
    );
}

#[tokio::test]
async fn a_stream_says_what_a_single_answer_says() {
    let node = zoo().await;
    let body = r#"{"model":"zebra","messages":[{"role":"user","content":"hi"}]"#;
    let lines = post(node.addr(), "/api/chat", &format!("{body}}}"))
        .await
        .texts();
    let once = post(
        node.addr(),
        "/api/chat",
        &format!("{body},\"stream\":false}}"),
    )
    .await
    .json();
    let parsed: Vec<Value> = lines
        .iter()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let text: String = parsed
        .iter()
        .map(|l| l["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, once["message"]["content"]);
    let last = parsed.last().expect(LAST_LINE);
    assert_eq!(last["eval_count"], once["eval_count"]);
    assert_eq!(
        last["eval_count"].as_u64().unwrap() as usize,
        parsed.len() - 1
    );
    assert_eq!(last["done_reason"], "stop");
}

#[tokio::test]
async fn a_tool_that_is_named_is_called_in_every_dialect() {
    let node = zoo().await;
    let tool = r#"{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}"#;
    let question = r#""messages":[{"role":"user","content":"weather in Paris?"}]"#;
    let native = post(
        node.addr(),
        "/api/chat",
        &format!(r#"{{"model":"zebra",{question},"tools":[{tool}]}}"#),
    )
    .await;
    let lines = native.texts();
    let call: Value = serde_json::from_str(&lines[lines.len() - 2]).unwrap();
    assert_eq!(
        call["message"]["tool_calls"][0]["function"]["name"],
        "weather"
    );
    assert!(call["message"]["tool_calls"][0]["function"]["arguments"]["city"].is_string());

    let body = format!(r#"{{"model":"zebra",{question},"tools":[{tool}]}}"#);
    let openai = post(node.addr(), "/v1/chat/completions", &body)
        .await
        .json();
    assert_eq!(openai["choices"][0]["finish_reason"], "tool_calls");
    let arguments = openai["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        .as_str()
        .unwrap();
    assert!(serde_json::from_str::<Value>(arguments).unwrap()["city"].is_string());

    let tool = r#"{"name":"weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}"#;
    let body = format!(r#"{{"model":"zebra","max_tokens":50,{question},"tools":[{tool}]}}"#);
    let anthropic = post(node.addr(), "/v1/messages", &body).await.json();
    assert_eq!(anthropic["stop_reason"], "tool_use");
    assert!(anthropic["content"][0]["input"]["city"].is_string());
    let streamed = post(
        node.addr(),
        "/v1/messages",
        &body.replacen('{', "{\"stream\":true,", 1),
    )
    .await
    .body();
    assert!(
        streamed.contains("input_json_delta")
            && streamed.ends_with("{\"type\":\"message_stop\"}\n\n")
    );

    let tool =
        r#"{"type":"function","name":"weather","parameters":{"type":"object","properties":{}}}"#;
    let body = format!(r#"{{"model":"zebra","input":"weather?","stream":true,"tools":[{tool}]}}"#);
    let responses = post(node.addr(), "/v1/responses", &body).await.body();
    assert!(responses.contains("response.function_call_arguments.done"));
}

#[tokio::test]
async fn a_thinking_model_thinks_first_unless_told_not_to() {
    let node = zoo().await;
    let chat = r#"{"model":"lion:7b","messages":[{"role":"user","content":"hi"}]"#;
    let first: Value = serde_json::from_str(
        &post(node.addr(), "/api/chat", &format!("{chat}}}"))
            .await
            .texts()[0],
    )
    .unwrap();
    assert!(first["message"]["thinking"].is_string() && first["message"]["content"] == "");
    let quiet = post(
        node.addr(),
        "/api/chat",
        &format!("{chat},\"think\":false,\"stream\":false}}"),
    )
    .await
    .json();
    assert!(quiet["message"].get("thinking").is_none());
    let openai = post(
        node.addr(),
        "/v1/chat/completions",
        &format!("{chat},\"stream\":true}}"),
    )
    .await
    .body();
    assert!(openai.contains("\"reasoning\":") && openai.ends_with("data: [DONE]\n\n"));
    let thinking = format!(
        "{chat},\"max_tokens\":30,\"thinking\":{{\"type\":\"enabled\",\"budget_tokens\":9}}}}"
    );
    let anthropic = post(node.addr(), "/v1/messages", &thinking).await.json();
    assert_eq!(anthropic["content"][0]["type"], "thinking");
}

#[tokio::test]
async fn formats_images_and_suffixes_are_taken_by_those_who_can() {
    let node = zoo().await;
    let schema =
        r#"{"type":"object","properties":{"n":{"type":"integer"},"ok":{"type":"boolean"}}}"#;
    let body = format!(r#"{{"model":"zebra","prompt":"x","stream":false,"format":{schema}}}"#);
    let text = post(node.addr(), "/api/generate", &body).await.json()["response"]
        .as_str()
        .unwrap()
        .to_owned();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value["n"].is_u64() && value["ok"].is_boolean());
    let pictured =
        r#"{"model":"lion:7b","prompt":"x","images":["aGVsbG8="],"suffix":"y","stream":false}"#;
    assert_eq!(
        post(node.addr(), "/api/generate", pictured).await.status(),
        200
    );
    let refused = post(
        node.addr(),
        "/api/generate",
        &pictured.replace("lion:7b", "zebra"),
    )
    .await;
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn embeddings_have_the_models_length_or_the_one_asked_for() {
    let node = zoo().await;
    let embed = |extra: &str| format!(r#"{{"model":"forest/owl:v2","input":["a","b"]{extra}}}"#);
    let full = post(node.addr(), "/api/embed", &embed("")).await.json();
    assert_eq!(full["embeddings"][1].as_array().unwrap().len(), 8);
    let cut = post(node.addr(), "/api/embed", &embed(",\"dimensions\":3"))
        .await
        .json();
    let sum: f64 = cut["embeddings"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_f64().unwrap().powi(2))
        .sum();
    assert!((sum - 1.0).abs() < 1e-5);
    let packed = post(
        node.addr(),
        "/v1/embeddings",
        &embed(",\"encoding_format\":\"base64\""),
    )
    .await
    .json();
    assert_eq!(packed["data"][1]["embedding"].as_str().unwrap().len(), 44);
}

#[tokio::test]
async fn two_requests_in_one_write_get_two_answers() {
    let node = zoo().await;
    let mut client = Client::connect(node.addr()).await.unwrap();
    let both = [
        request("POST", "/api/show", r#"{"model":"zebra"}"#),
        request("GET", "/api/version", ""),
    ]
    .concat();
    client.send(&both).await;
    while !client.bytes.ends_with(br#"{"version":"1.2.3"}"#) {
        client.read().await.unwrap();
    }
    assert_eq!(
        node.requests().iter().filter(|r| r.connection == 0).count(),
        2
    );
}

#[tokio::test]
async fn an_old_client_gets_a_stream_without_chunks() {
    let node = zoo().await;
    let body = r#"{"model":"zebra","prompt":"x"}"#;
    let head = format!(
        "POST /api/generate HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(node.addr(), head.as_bytes()).await.0.unwrap();
    assert!(!answer.is_chunked && answer.is_complete);
    assert!(
        answer
            .body()
            .lines()
            .last()
            .unwrap()
            .contains("\"done\":true")
    );
}

#[tokio::test]
async fn a_head_of_more_than_a_mebibyte_is_refused() {
    let node = zoo().await;
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n",
        "a".repeat(1_153_434)
    );
    let answer = exchange(node.addr(), huge.as_bytes()).await.0.unwrap();
    assert_eq!(answer.status(), 431);
}

#[tokio::test]
async fn what_was_seen_can_be_asked() {
    let node = zoo().await;
    post(node.addr(), "/api/chat", r#"{"model":"gnu"}"#).await;
    let seen = node.requests().pop().unwrap();
    assert_eq!(
        (seen.model.as_str(), seen.body_len, seen.path.as_str()),
        ("gnu", 15, "/api/chat")
    );
    assert_eq!(seen.outcome, aivonx_sim::Outcome::Finished(404));
    assert_eq!(seen.body_sha256.len(), 64);
    assert_eq!(seen.header("host"), Some("127.0.0.1"));
    assert_eq!(node.count("/api/chat"), 1);
}
