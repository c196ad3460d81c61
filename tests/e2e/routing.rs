//! Which node a request goes to.

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use serde_json::json;

use crate::support::{Client, Setup, chat, get, json_post, post, until, warm};

async fn node(models: &[&str]) -> SimNode {
    let spec = models.iter().fold(NodeSpec::new(), |spec, name| {
        spec.model(ModelSpec::new(name))
    });
    SimNode::start(spec).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_to_a_holder_of_its_model_however_it_is_spelt() {
    let (a, b) = (node(&["tiny"]).await, node(&["other:7b"]).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    for (spelling, expected) in [
        ("tiny", "n0"),
        ("TINY:latest", "n0"),
        (" library/tiny ", "n0"),
        ("registry.ollama.ai/library/Tiny", "n0"),
        ("other:7b", "n1"),
        ("OTHER:7B", "n1"),
        ("other:7b:local", "n1"),
    ] {
        let answer = post(aivonx.addr, "/api/chat", &chat(spelling, 2, false)).await;
        assert_eq!(
            (answer.status, answer.node()),
            (200, expected),
            "{spelling}"
        );
    }
    for body in [
        r#"{"messages":[{"role":"user","content":"x"}],"Model":"other:7b"}"#,
        r#"{"model":"tiny","messages":[],"MODEL":"other:7b"}"#,
        r#"{"model":"other:7b","messages":[],"model":null} trailing"#,
        r#"{"\u006dodel":"other:7b","messages":[]}"#,
    ] {
        assert_eq!(
            post(aivonx.addr, "/api/chat", body).await.node(),
            "n1",
            "{body}"
        );
    }
    let legacy = post(aivonx.addr, "/api/show", r#"{"name":"other:7b"}"#).await;
    assert_eq!((legacy.status, legacy.node()), (200, "n1"));
    assert_eq!(
        post(aivonx.addr, "/api/chat", r#"{"name":"tiny","messages":[]}"#)
            .await
            .json(),
        json!({"error":"model is required"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialect_is_routed_and_marked() {
    let a = SimNode::start(
        NodeSpec::new()
            .model(ModelSpec::new("tiny"))
            .model(ModelSpec::embedding("emb")),
    )
    .await
    .unwrap();
    let aivonx = Setup::nodes(&[&a]).start().await;
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    for (path, body) in [
        (
            "/api/generate",
            r#"{"model":"tiny","prompt":"x","stream":false}"#.to_owned(),
        ),
        (
            "/api/chat",
            format!(r#"{{"model":"tiny","stream":false,{messages}}}"#),
        ),
        ("/api/embed", r#"{"model":"emb","input":"x"}"#.to_owned()),
        (
            "/api/embeddings",
            r#"{"model":"emb","prompt":"x"}"#.to_owned(),
        ),
        ("/api/show", r#"{"model":"tiny"}"#.to_owned()),
        (
            "/v1/chat/completions",
            format!(r#"{{"model":"tiny",{messages}}}"#),
        ),
        (
            "/v1/completions",
            r#"{"model":"tiny","prompt":"x"}"#.to_owned(),
        ),
        (
            "/v1/embeddings",
            r#"{"model":"emb","input":"x"}"#.to_owned(),
        ),
        (
            "/v1/responses",
            r#"{"model":"tiny","input":"x"}"#.to_owned(),
        ),
        (
            "/v1/messages",
            format!(r#"{{"model":"tiny","max_tokens":3,{messages}}}"#),
        ),
    ] {
        let mut client = Client::connect(aivonx.addr).await;
        client
            .send(json_post(aivonx.addr, path, &body).replacen(
                "\r\n",
                &format!("\r\nx-request-id: my{}\r\n", path.replace('/', "-")),
                1,
            ))
            .await;
        let answer = client.response().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(
            (answer.node(), answer.header("x-aivonx-attempts")),
            ("n0", Some("1")),
            "{path}"
        );
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(id, format!("my{}", path.replace('/', "-")));
        let line = aivonx.access_line(&id).await;
        assert_eq!(
            (&line["route"], &line["outcome"]),
            (&json!(path), &json!("ok"))
        );
        if !path.contains("embed") && path != "/api/show" {
            assert!(
                line["tokens_output"]
                    .as_u64()
                    .is_some_and(|tokens| tokens > 0),
                "{line}"
            );
            assert!(
                line["tokens_prompt"]
                    .as_u64()
                    .is_some_and(|tokens| tokens > 0),
                "{line}"
            );
        }
    }
    assert_eq!(
        post(aivonx.addr, "/v1/systemone", r#"{"model":"tiny"}"#)
            .await
            .text(),
        "404 page not found",
        "an unknown route is the node's to answer"
    );
    assert_eq!(a.count("/v1/systemone"), 1);
    assert_eq!(
        post(aivonx.addr, "/api/signout", "").await.status,
        403,
        "a node's identity is not for clients"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resident_model_is_used_before_a_cold_one_and_a_free_slot_before_a_busy_one() {
    let slow = || NodeSpec::new().model(ModelSpec::new("tiny").speed(f64::INFINITY, 20.0));
    let (a, b) = (
        SimNode::start(slow()).await.unwrap(),
        SimNode::start(slow()).await.unwrap(),
    );
    // b has it in memory, as somebody beside the proxy made it load
    post(b.addr(), "/api/generate", r#"{"model":"tiny"}"#).await;
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    until("b's residency is known", || async {
        get(aivonx.addr, "/api/ps").await.text().contains("n1")
    })
    .await;

    let mut first = Client::connect(aivonx.addr).await;
    first
        .send(json_post(
            aivonx.addr,
            "/api/chat",
            &chat("tiny", 2000, true),
        ))
        .await;
    assert_eq!(first.head().await.unwrap().node(), "n1", "warm and free");
    let mut second = Client::connect(aivonx.addr).await;
    second
        .send(json_post(
            aivonx.addr,
            "/api/chat",
            &chat("tiny", 2000, true),
        ))
        .await;
    assert_eq!(
        second.head().await.unwrap().node(),
        "n0",
        "its slot is free"
    );
    aivonx.metric_is(r#"aivonx_inflight{node="n0"}"#, 1.0).await;
    drop((first, second));
    until("both clients' work is cancelled", || async {
        a.in_flight() + b.in_flight() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_keep_a_model_off_a_node_even_where_nobody_holds_it() {
    let (small, large) = (
        node(&["llama3:70b", "llama3:8b"]).await,
        node(&["llama3:70b"]).await,
    );
    let yaml = format!(
        "nodes:\n  - {{name: small, url: \"{}\", models: {{exclude: [\"*:70b\"]}}}}\n  - {{name: large, url: \"{}\"}}\n",
        small.url(),
        large.url()
    );
    let aivonx = Setup::fleet(yaml).start().await;
    for _ in 0..5 {
        assert_eq!(
            post(aivonx.addr, "/api/chat", &chat("llama3:70b", 1, false))
                .await
                .node(),
            "large"
        );
        let unknown = post(aivonx.addr, "/api/chat", &chat("qwen3:70b", 1, false)).await;
        assert_eq!(
            (unknown.status, unknown.node()),
            (404, "large"),
            "{}",
            unknown.text()
        );
    }
    let listed = get(aivonx.addr, "/api/tags").await.json();
    assert_eq!(listed["models"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_behind_one_address_are_told_apart_by_base_path_and_weight_shares_the_work() {
    // an ingress: one listener, two Ollamas behind it
    let (a, b) = (node(&["tiny"]).await, node(&["tiny"]).await);
    let (one, two) = (a.addr(), b.addr());
    let ingress = ingress(vec![("/team-a", one), ("/team-b", two)]).await;
    let yaml = format!(
        "nodes:\n  - {{name: a, url: \"http://{ingress}/team-a\"}}\n  - {{name: b, url: \"http://{ingress}/team-b/\"}}\n"
    );
    let aivonx = Setup::fleet(yaml).start().await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..40 {
        let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        assert_eq!(answer.status, 200);
        seen.insert(answer.node().to_owned());
    }
    assert_eq!(seen.len(), 2);
    assert!(a.count("/api/chat") > 0 && b.count("/api/chat") > 0);
}

/// Sends each connection to the node of its first request's path, without the prefix.
async fn ingress(routes: Vec<(&'static str, std::net::SocketAddr)>) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let routes = routes.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                // one exchange a connection: read a request, pass it on, pass the answer back
                if let Ok(read @ 1..) = client.read(&mut buffer).await {
                    let mut request = buffer[..read].to_vec();
                    while let Some(missing) = missing(&request) {
                        let read = client.read(&mut buffer).await.unwrap_or(0);
                        if read == 0 || missing == 0 {
                            break;
                        }
                        request.extend_from_slice(&buffer[..read]);
                    }
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((prefix, node)) = routes.iter().find(|(prefix, _)| {
                        text.split(' ')
                            .nth(1)
                            .is_some_and(|path| path.starts_with(prefix))
                    }) else {
                        return;
                    };
                    let passed = text.replacen(prefix, "", 1).replacen(
                        "\r\n",
                        "\r\nConnection: close\r\n",
                        1,
                    );
                    let mut upstream = tokio::net::TcpStream::connect(node).await.unwrap();
                    upstream.write_all(passed.as_bytes()).await.unwrap();
                    let mut answer = Vec::new();
                    upstream.read_to_end(&mut answer).await.unwrap();
                    client.write_all(&answer).await.unwrap();
                }
            });
        }
    });
    addr
}

/// Bytes of the body still to come; `None` where the request is whole.
fn missing(request: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Some(1);
    };
    let length = head
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .unwrap_or(0);
    (body.len() < length).then(|| length - body.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleets_own_reads_are_answered_from_what_is_known() {
    let (a, b) = (node(&["tiny", "big"]).await, node(&["tiny"]).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let before = a.count("/api/tags");
    let tags = get(aivonx.addr, "/api/tags").await;
    assert_eq!(
        tags.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let mut names: Vec<_> = tags.json()["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["big:latest", "tiny:latest"]);
    assert_eq!(get(aivonx.addr, "/").await.text(), "Ollama is running");
    assert_eq!(
        get(aivonx.addr, "/v1/models/library%2Ftiny").await.json()["id"],
        "library/tiny"
    );
    let missing = get(aivonx.addr, "/v1/models/nosuch").await;
    assert_eq!(
        (missing.status, missing.json()["error"]["message"].as_str()),
        (404, Some("model 'nosuch:latest' not found"))
    );
    let ours = a.count("/api/tags") - before;
    assert!(ours <= 3, "no node is asked for a client's read: {ours}");

    post(aivonx.addr, "/api/chat", &chat("big", 1, false)).await;
    until("ps shows where it runs", || async {
        get(aivonx.addr, "/api/ps").await.json()["models"][0]["running_on"] == json!(["n0"])
    })
    .await;
}
