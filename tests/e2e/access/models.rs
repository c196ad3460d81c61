//! A key's list of models: what it sees and what it may use, however the model is named.

use aivonx_sim::SimNode;

use super::{ask, bearer, key, node};
use crate::support::{Aivonx, Client, Setup};

async fn house() -> (SimNode, Aivonx) {
    let node = node(&["tiny", "small", "ns/big:7b"]).await;
    let document = format!(
        "keys:\n{}{}",
        key("some", ", models: [tiny, \"ns/*\"]"),
        key("all", "")
    );
    let aivonx = Setup::nodes_with(&[&node], "", &document).start().await;
    (node, aivonx)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_show_the_models_of_the_key_only() {
    let (_node, aivonx) = house().await;
    let names = async |id: &str, path: &str, list: &str, field: &str| -> Vec<String> {
        let answer = ask(aivonx.addr, &bearer(id), "GET", path, "").await.json();
        let mut names: Vec<_> = answer[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model[field].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mine = ["ns/big:7b", "tiny:latest"];
    assert_eq!(names("some", "/api/tags", "models", "name").await, mine);
    assert_eq!(names("some", "/v1/models", "data", "id").await, mine);
    assert_eq!(names("all", "/api/tags", "models", "name").await.len(), 3);
    let one = async |path: &str| {
        ask(aivonx.addr, &bearer("some"), "GET", path, "")
            .await
            .status
    };
    assert_eq!(one("/v1/models/tiny").await, 200);
    assert_eq!(one("/v1/models/small").await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_that_counts_at_the_node_is_the_one_that_is_judged() {
    let (node, aivonx) = house().await;
    let long = "x".repeat(5000);
    let cases = [
        (200, r#"{"model":"tiny"}"#.to_owned()),
        (200, r#"{"model":"TINY:latest"}"#.into()),
        (200, r#"{"model":"ns/big:7b"}"#.into()),
        (200, r#"{"model":"small","model":"tiny"}"#.into()),
        (404, r#"{"model":"ns/nosuch"}"#.into()),
        (403, r#"{"model":"small"}"#.into()),
        (403, r#"{"model":"tiny","model":"small"}"#.into()),
        (403, r#"{"model":"tiny","Model":"small"}"#.into()),
        (403, r#"{"model":"tiny","mod\u0065l":"small"}"#.into()),
        (
            403,
            r#"{"model":"registry.ollama.ai/library/small:latest"}"#.into(),
        ),
        (403, r#"{"model":" small "}"#.into()),
        (403, r#"{"model":"small:local"}"#.into()),
        (403, r#"{"model":"nosuch"}"#.into()),
        (403, r#"{"name":"tiny"}"#.into()),
        (403, r#"{"model":7}"#.into()),
        (403, format!(r#"{{"model":"{long}"}}"#)),
        (403, r#"{"model":"tiny""#.into()),
        (403, "nonsense".into()),
        (403, String::new()),
    ];
    for (want, body) in cases {
        let before = node.requests().len();
        let answer = ask(aivonx.addr, &bearer("some"), "POST", "/api/generate", &body).await;
        assert_eq!(answer.status, want, "{body}: {}", answer.text());
        if want == 403 {
            let seen = node.requests();
            let asked = seen[before..]
                .iter()
                .any(|seen| seen.path == "/api/generate");
            assert!(!asked, "no node was asked for {body}");
        }
    }
    let shown = ask(
        aivonx.addr,
        &bearer("some"),
        "POST",
        "/api/show",
        r#"{"name":"small"}"#,
    )
    .await;
    assert_eq!(shown.status, 403);
    assert_eq!(
        shown.json()["error"],
        "model 'small' is not on the list of models that this caller may use"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_too_long_to_be_held_cannot_smuggle_another_model() {
    let node = node(&["tiny", "small"]).await;
    let document = format!("keys:\n{}", key("some", ", models: [tiny]"));
    let aivonx = Setup::nodes_with(&[&node], "", &document)
        .set("BODY__BUFFER", "64KiB")
        .start()
        .await;
    let filler = "x".repeat(300 << 10);
    let body = format!(r#"{{"model":"tiny","stream":false,"prompt":"{filler}","model":"small"}}"#);
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(format!(
            "POST /api/generate HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{body}",
            bearer("some"),
            body.len()
        ))
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.text().contains("names two models"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_cannot_be_overridden_from_the_query() {
    let (_node, aivonx) = house().await;
    let form = "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ntiny\r\n--B--\r\n";
    let headers = format!(
        "{}Content-Type: multipart/form-data; boundary=B\r\n",
        bearer("some")
    );
    let path = "/v1/audio/transcriptions";
    let plain = ask(aivonx.addr, &headers, "POST", path, form).await;
    assert!(![401, 403].contains(&plain.status), "{}", plain.text());
    for query in ["model=small", "%6dodel=small", "a=1&model=small"] {
        let asked = format!("{path}?{query}");
        let answer = ask(aivonx.addr, &headers, "POST", &asked, form).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_on_the_list_opens_what_it_leads_to_and_no_more() {
    let node = node(&["tiny", "small"]).await;
    let document = format!(
        "aliases: {{fast: [tiny], both: [tiny, small]}}\nkeys:\n{}{}",
        key("by-alias", ", models: [fast]"),
        key("by-model", ", models: [tiny]")
    );
    let aivonx = Setup::nodes_with(&[&node], "", &document).start().await;
    let status = async |id: &str, model: &str| {
        let body = format!(r#"{{"model":"{model}"}}"#);
        ask(aivonx.addr, &bearer(id), "POST", "/api/generate", &body)
            .await
            .status
    };
    for (id, model, want) in [
        ("by-alias", "fast", 200),
        ("by-alias", "tiny", 403),
        ("by-alias", "both", 403),
        ("by-model", "tiny", 200),
        ("by-model", "fast", 200),
        ("by-model", "both", 403), // it may fall back to a model that is not on the list
    ] {
        assert_eq!(status(id, model).await, want, "{id} {model}");
    }
    let tags = ask(aivonx.addr, &bearer("by-alias"), "GET", "/api/tags", "")
        .await
        .json();
    let names: Vec<_> = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["fast:latest"]);
    let one = async |id: &str| {
        let path = format!("/v1/models/{id}");
        ask(aivonx.addr, &bearer("by-alias"), "GET", &path, "")
            .await
            .status
    };
    assert_eq!(
        (one("fast").await, one("both").await, one("tiny").await),
        (200, 404, 404)
    );
}
