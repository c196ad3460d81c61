//! What is changed on the way: aliases, bounds of `keep_alive`, and counts of streams that are
//! asked for and taken out again. A node must see exactly the body it shall see.

mod usage;

use aivonx_sim::{Fault, FaultScope, ModelSpec, NodeSpec, SeenRequest, SimNode};
use serde_json::json;

use crate::bodies::digest;
use crate::support::{Aivonx, Client, Response, Setup, chat, get, json_post, post, until};

async fn node(models: &[&str]) -> SimNode {
    let spec = models.iter().fold(NodeSpec::new(), |spec, model| {
        spec.model(ModelSpec::new(model).context_length(1 << 30))
    });
    SimNode::start(spec).await.unwrap()
}

async fn start(nodes: &[&SimNode], document: &str) -> Aivonx {
    Setup::nodes_with(nodes, "", document).start().await
}

/// The last request for a path that a node saw.
fn last(node: &SimNode, path: &str) -> SeenRequest {
    let seen = node.requests();
    seen.into_iter()
        .rfind(|request| request.path == path)
        .unwrap()
}

/// The client sent `body`, the node saw `wanted`.
async fn rewritten(aivonx: &Aivonx, node: &SimNode, path: &str, body: &str, wanted: &str) {
    let answer = post(aivonx.addr, path, body).await;
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    let seen = last(node, path);
    assert_eq!(seen.body_len, wanted.len() as u64, "{path} {body}");
    assert_eq!(seen.body_sha256, digest(wanted.as_bytes()), "{path} {body}");
    let length = wanted.len().to_string();
    assert_eq!(seen.header("content-length"), Some(length.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_is_rewritten_wherever_it_stands() {
    let a = node(&["qwen3:8b"]).await;
    let aivonx = start(&[&a], "aliases: {GPT-4o-mini: [qwen3:8b]}").await;
    let chat = [
        (
            r#"{"model":"gpt-4o-mini","messages":[],"x":{"model":"gpt-4o-mini"}}"#,
            r#"{"model":"qwen3:8b","messages":[],"x":{"model":"gpt-4o-mini"}}"#,
        ),
        (
            r#"{"messages":[], "Model" : "GPT-4o-mini:latest" } "#,
            r#"{"messages":[], "Model" : "qwen3:8b" } "#,
        ),
        (
            r#"{"model":"other","m\u006fdel":"gpt\u002d4o-mini","model":null}"#,
            r#"{"model":"qwen3:8b","m\u006fdel":"qwen3:8b","model":null}"#,
        ),
        (
            r#"{"model":" library/gpt-4o-mini ","name":"gpt-4o-mini"} {"model":"x"}"#,
            r#"{"model":"qwen3:8b","name":"gpt-4o-mini"} {"model":"x"}"#,
        ),
    ];
    for (body, wanted) in chat {
        rewritten(&aivonx, &a, "/api/chat", body, wanted).await;
    }
    for (body, wanted) in [
        (r#"{"name":"gpt-4o-mini"}"#, r#"{"name":"qwen3:8b"}"#),
        (
            r#"{"model":"gpt-4o-mini","name":"y"}"#,
            r#"{"model":"qwen3:8b","name":"y"}"#,
        ),
    ] {
        rewritten(&aivonx, &a, "/api/show", body, wanted).await;
    }
    rewritten(
        &aivonx,
        &a,
        "/v1/chat/completions",
        r#"{"messages":[{"role":"user","content":"Hi"}],"model":"gpt-4o-mini","max_tokens":2}"#,
        r#"{"messages":[{"role":"user","content":"Hi"}],"model":"qwen3:8b","max_tokens":2}"#,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aliased_request_says_which_model_served_it() {
    let a = node(&["qwen3:8b"]).await;
    let aivonx = start(&[&a], "aliases: {small: [qwen3:8b]}").await;
    let body = chat("small", 2, false);
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nx-request-id: aliased\r\nx-aivonx-model: forged\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    let answer = client.response().await;
    assert_eq!(answer.header("x-aivonx-model"), Some("qwen3:8b"));
    assert_eq!(answer.json()["model"], "qwen3:8b");
    assert_eq!(last(&a, "/api/chat").header("x-aivonx-model"), None);
    let line = aivonx.access_line("aliased").await;
    assert_eq!(
        (&line["model"], &line["alias"]),
        (&json!("qwen3:8b"), &json!("small"))
    );
    assert_eq!(
        aivonx.metric_sum("aivonx_requests_total", "model=\"qwen3:8b\""),
        1.0
    );

    let plain = post(aivonx.addr, "/api/chat", &chat("qwen3:8b", 1, false)).await;
    assert_eq!(plain.header("x-aivonx-model"), None);
    let line = aivonx
        .access_line(plain.header("x-request-id").unwrap())
        .await;
    assert_eq!(line.get("alias"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_are_in_the_lists() {
    let a = node(&["qwen3:8b", "hidden"]).await;
    let document = "aliases: {small: [nosuch, qwen3:8b], hidden: [qwen3:8b], gone: [nosuch]}";
    let aivonx = start(&[&a], document).await;
    until("the inventory is read", || async {
        get(aivonx.addr, "/api/tags").await.json()["models"] != json!([])
    })
    .await;
    let tags = get(aivonx.addr, "/api/tags").await.json();
    let models = tags["models"].as_array().unwrap();
    let entry = |name: &str| models.iter().find(|model| model["name"] == name).unwrap();
    let names = |key: &str| -> Vec<String> {
        let name = |model: &serde_json::Value| model[key].as_str().unwrap().to_owned();
        models.iter().map(name).collect()
    };
    let mut listed = names("name");
    assert_eq!(listed, names("model"));
    listed.sort();
    assert_eq!(listed, ["hidden:latest", "qwen3:8b", "small:latest"]);
    for alias in ["hidden:latest", "small:latest"] {
        assert_eq!(entry(alias)["digest"], entry("qwen3:8b")["digest"]);
    }
    let list = get(aivonx.addr, "/v1/models").await.json();
    let mut ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].clone())
        .collect();
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, ["hidden", "qwen3:8b", "small"]);
    let one = get(aivonx.addr, "/v1/models/small").await;
    assert_eq!((one.status, &one.json()["id"]), (200, &json!("small")));
    assert_eq!(get(aivonx.addr, "/v1/models/gone").await.status, 404);
}

/// Asks and says which model answered.
async fn served(aivonx: &Aivonx, model: &str) -> (u16, String) {
    let answer = post(aivonx.addr, "/api/chat", &chat(model, 1, false)).await;
    let model = answer.header("x-aivonx-model").unwrap_or("").to_owned();
    (answer.status, model)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_follows_what_is_alive() {
    let (a, b) = (node(&["big"]).await, node(&["tiny"]).await);
    let aivonx = start(&[&a, &b], "aliases: {best: [big, tiny], big2: [big]}").await;
    assert_eq!(served(&aivonx, "best").await, (200, "big:latest".into()));
    a.fault(Fault::Refuse);
    a.refuses().await;
    until("the first model's node is down", || async {
        aivonx.metric("aivonx_node_up{node=\"n0\"}") == 0.0
    })
    .await;
    assert_eq!(served(&aivonx, "best").await, (200, "tiny:latest".into()));
    // with nothing alive it is the first that is held, and its answer
    assert_eq!(served(&aivonx, "big2").await.0, 503);
    a.clear_faults();
    until("it is back", || async {
        served(&aivonx, "best").await == (200, "big:latest".into())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_falls_back_along_the_chain_when_its_node_fails() {
    for size in [100, 300_000] {
        let (a, b) = (node(&["big", "tiny"]).await, node(&["tiny"]).await);
        let aivonx = Setup::nodes_with(&[&a, &b], "", "aliases: {best: [big, tiny]}")
            .set("PROBE__UNHEALTHY_AFTER", "100")
            .start()
            .await;
        let text = "A".repeat(size);
        let ask = |model: &str| {
            format!(
                r#"{{"model":"{model}","stream":false,"options":{{"num_predict":1}},"messages":[{{"role":"user","content":"{text}"}}],"model":"{model}"}}"#
            )
        };
        // the node is away: it is not asked for the other model, either
        a.fault(Fault::Refuse);
        a.refuses().await;
        let answer = post(aivonx.addr, "/api/chat", &ask("best")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-aivonx-model"), Some("tiny:latest"));
        assert_eq!(
            (answer.node(), answer.header("x-aivonx-attempts")),
            ("n1", Some("2"))
        );
        let whole = digest(ask("tiny:latest").as_bytes());
        assert_eq!(last(&b, "/api/chat").body_sha256, whole);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_fails_gives_way_to_the_next_on_the_same_node() {
    let a = node(&["big", "tiny"]).await;
    let aivonx = start(&[&a], "aliases: {best: [big, tiny]}").await;
    a.fault_for(Fault::error_500(), FaultScope::next(1).path("/api/chat"));
    let answer = post(aivonx.addr, "/api/chat", &chat("best", 1, false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-aivonx-model"), Some("tiny:latest"));
    let models: Vec<_> = a
        .requests()
        .into_iter()
        .filter(|request| request.path == "/api/chat")
        .map(|request| request.model)
        .collect();
    assert_eq!(models, ["big:latest", "tiny:latest"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_of_which_nothing_is_held_is_not_found_under_its_own_name() {
    let a = node(&["gone", "tiny"]).await;
    // a node does have a model of that name: it is hidden all the same
    let aivonx = start(&[&a], "aliases: {gone: [nosuch]}").await;
    let native = post(aivonx.addr, "/api/chat", &chat("gone", 1, false)).await;
    assert_eq!(native.status, 404);
    assert_eq!(native.json()["error"], "model 'gone' not found");
    let body = r#"{"model":"gone","input":"x"}"#;
    let openai = post(aivonx.addr, "/v1/embeddings", body).await;
    assert_eq!(openai.status, 404);
    assert_eq!(
        openai.json()["error"]["message"],
        "model \"gone\" not found, try pulling it first"
    );
    assert_eq!(a.count("/api/chat") + a.count("/v1/embeddings"), 0);
    let local = post(aivonx.addr, "/api/chat", &chat("gone:local", 1, false)).await;
    assert_eq!(local.status, 200, "{}", local.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alive_is_held_to_its_bounds() {
    let a = node(&["tiny", "free"]).await;
    let document = "keep_alive:\n  - {models: [tiny], min: 1m, max: 1h}\n  - {models: [none]}\n";
    let document = document.replace("  - {models: [none]}\n", "");
    let aivonx = start(&[&a], &document).await;
    for (path, body, wanted) in [
        (
            "/api/generate",
            r#"{"model":"tiny","prompt":"x","keep_alive":-1,"stream":false}"#,
            r#"{"model":"tiny","prompt":"x","keep_alive":3600,"stream":false}"#,
        ),
        (
            "/api/chat",
            r#"{"keep_alive":"24h","model":"tiny","messages":[]}"#,
            r#"{"keep_alive":3600,"model":"tiny","messages":[]}"#,
        ),
        (
            "/api/embed",
            r#"{"model":"tiny","input":[],"Keep_Alive":5}"#,
            r#"{"model":"tiny","input":[],"Keep_Alive":60}"#,
        ),
        // within them, absent, of another model, or an unload: as it is
        (
            "/api/chat",
            r#"{"model":"tiny","messages":[],"keep_alive":"5m"}"#,
            r#"{"model":"tiny","messages":[],"keep_alive":"5m"}"#,
        ),
        (
            "/api/chat",
            r#"{"model":"free","messages":[],"keep_alive":-1}"#,
            r#"{"model":"free","messages":[],"keep_alive":-1}"#,
        ),
        (
            "/api/generate",
            r#"{"model":"tiny","keep_alive":"0m"}"#,
            r#"{"model":"tiny","keep_alive":"0m"}"#,
        ),
        (
            "/api/embed",
            r#"{"model":"tiny","input":[],"keep_alive":0}"#,
            r#"{"model":"tiny","input":[],"keep_alive":0}"#,
        ),
    ] {
        rewritten(&aivonx, &a, path, body, wanted).await;
    }
    let invalid = r#"{"model":"tiny","prompt":"x","keep_alive":"5"}"#;
    let answer = post(aivonx.addr, "/api/generate", invalid).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("missing unit"), "{}", answer.text());
}

/// A chat of `size` bytes in its message, and what follows it.
fn long(model: &str, size: usize, after: &str) -> String {
    let text = "A".repeat(size);
    format!(
        r#"{{"model":"{model}","stream":false,"options":{{"num_predict":1}},"messages":[{{"role":"user","content":"{text}"}}]{after}}}"#
    )
}

async fn sent(aivonx: &Aivonx, body: &str) -> Option<Response> {
    let mut client = Client::connect(aivonx.addr).await;
    client.send(json_post(aivonx.addr, "/api/chat", body)).await;
    client.response_to("POST").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_streams_on_is_edited_as_far_as_it_is_held() {
    let a = node(&["tiny"]).await;
    let document = "aliases: {small: [tiny]}\nkeep_alive: [{max: 1h}]";
    let aivonx = Setup::nodes_with(&[&a], "", document)
        .set("BODY__BUFFER", "1MiB")
        .start()
        .await;
    let body = long("small", 3 << 20, "");
    let answer = sent(&aivonx, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let wanted = long("tiny:latest", 3 << 20, "");
    assert_eq!(last(&a, "/api/chat").body_sha256, digest(wanted.as_bytes()));

    // the alias again, or a keep_alive, where nothing can be changed any more
    for (after, status) in [
        (r#","model":"small""#, 400),
        (r#","model":"other""#, 400),
        (r#","keep_alive":-1"#, 413),
    ] {
        let answer = sent(&aivonx, &long("small", 3 << 20, after)).await;
        assert!(
            answer.is_none_or(|answer| answer.status == status),
            "{after} was let through"
        );
        let whole = digest(long("tiny:latest", 3 << 20, after).as_bytes());
        assert!(a.requests().iter().all(|seen| seen.body_sha256 != whole));
    }
}

/// The request of a recorded exchange.
fn recorded(name: &str) -> (String, Vec<u8>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/recordings/v1.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let record = records
        .into_iter()
        .find(|record| record["name"] == name)
        .unwrap();
    let request = &record["request"];
    let bytes: Vec<u8> = match request["latin1"].as_str() {
        Some(text) => text.chars().map(|letter| letter as u8).collect(),
        None => request.as_str().unwrap().as_bytes().to_vec(),
    };
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    (
        String::from_utf8(bytes[..end].to_vec()).unwrap(),
        bytes[end + 4..].to_vec(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_body_is_sent_plain_where_it_is_edited_and_only_there() {
    let (head, body) = recorded("v1-chat-zstd");
    assert!(head.to_ascii_lowercase().contains("content-encoding: zstd"));
    for (document, plain) in [("", false), ("aliases: {tiny: [real]}", true)] {
        for chunked in [false, true] {
            let a = node(&["real", "tiny"]).await;
            let aivonx = start(&[&a], document).await;
            let mut client = Client::connect(aivonx.addr).await;
            let start = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: zstd\r\n";
            if chunked {
                client
                    .send(format!("{start}Transfer-Encoding: chunked\r\n\r\n"))
                    .await;
                for byte in &body {
                    client
                        .send([b"1\r\n", &[*byte][..], b"\r\n"].concat())
                        .await;
                }
                client.send(b"0\r\n\r\n").await;
            } else {
                client
                    .send(format!("{start}Content-Length: {}\r\n\r\n", body.len()))
                    .await;
                client.send(&body).await;
            }
            let answer = client.response().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let seen = last(&a, "/v1/chat/completions");
            let model = if plain { "real:latest" } else { "tiny" };
            assert_eq!(answer.json()["model"], model);
            assert_eq!(seen.header("content-encoding"), (!plain).then_some("zstd"));
            assert_eq!(seen.body_sha256 == digest(&body), !plain);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_of_a_form_is_rewritten() {
    let spec = ModelSpec::new("whisper").capabilities(["completion", "audio"]);
    let a = SimNode::start(NodeSpec::new().model(spec)).await.unwrap();
    let aivonx = start(&[&a], "aliases: {whisper-1: [none, whisper]}").await;
    for size in [1_000, 300_000] {
        for model_first in [true, false] {
            let form = |model: &str| {
                let model = format!(
                    "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n"
                );
                let sound = "R".repeat(size);
                let file = format!(
                    "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{sound}\r\n"
                );
                let parts = if model_first {
                    [model, file]
                } else {
                    [file, model]
                };
                parts.concat() + "--B--\r\n"
            };
            let body = form("whisper-1");
            let mut client = Client::connect(aivonx.addr).await;
            client
                .send(format!(
                    "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .await;
            let answer = client.response().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("x-aivonx-model"), Some("whisper:latest"));
            let seen = last(&a, "/v1/audio/transcriptions");
            assert_eq!(seen.body_sha256, digest(form("whisper:latest").as_bytes()));
        }
    }
}
