//! Texts that mean something to somebody else, what belongs to others, and tokens that are used twice.

use serde_json::{Value, json};

use super::super::on_both;
use crate::support::{Kind, Stack};

on_both!(
    a_text_is_kept_and_never_obeyed,
    what_belongs_to_others_is_not_there,
    a_stolen_refresh_token_is_told_in_the_audit,
    no_spelling_of_an_address_leads_to_what_is_refused,
);

/// SQL, HTML, a template, a format string, a path, a line break of a log, letters that are written backwards.
const HOSTILE: [&str; 6] = [
    "'; DROP TABLE nodes; --",
    "<img src=x onerror=alert(1)>",
    "{{7*7}}${7*7}%s%n",
    "../../etc/passwd",
    "\\\" OR 1=1 /*",
    "a\u{202e}b\u{1f600}",
];

async fn made(stack: &Stack, path: &str, draft: Value) -> Value {
    let answer = stack.api("POST", path, draft.clone()).await;
    assert_eq!(answer.status, 201, "{path} {draft}: {}", answer.text());
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{kind}");
    answer.json()
}

async fn a_text_is_kept_and_never_obeyed(kind: Kind) {
    let stack = Stack::start(kind).await;
    for (index, text) in HOSTILE.iter().enumerate() {
        let label = json!({"note": text});
        let draft = json!({"name": text, "url": "http://127.0.0.1:9", "labels": label});
        let node = made(&stack, "/api/proxy/nodes", draft).await;
        assert_eq!((&node["name"], &node["labels"]), (&json!(text), &label));
        let slug = node["slug"].as_str().unwrap();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        assert!(!slug.is_empty() && slug.chars().all(is_plain), "{slug}");

        let draft = json!({"key_id": format!("k{index}"), "note": text});
        assert_eq!(made(&stack, "/api/proxy/keys", draft).await["note"], *text);
        let draft = json!({"name": text, "role": "viewer"});
        let token = made(&stack, "/api/account/tokens", draft).await;
        assert_eq!(token["name"], *text);

        // and found by it, where lists are searched
        let asked: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/proxy/nodes?name={asked}");
        let found = stack.api("GET", &path, Value::Null).await.json();
        assert_eq!(
            (&found["count"], &found["results"][0]["name"]),
            (&json!(1), &json!(text))
        );
    }
    let nodes = stack.api("GET", "/api/proxy/nodes", Value::Null).await;
    assert_eq!(nodes.json()["count"], HOSTILE.len());
    let audit = stack
        .api("GET", "/api/proxy/audit?limit=1000", Value::Null)
        .await;
    for text in HOSTILE {
        assert!(
            audit
                .text()
                .contains(json!(text).to_string().trim_matches('"')),
            "{text}"
        );
    }
    let metrics = stack.aivonx.ops("/metrics").1;
    assert!(!metrics.contains("'; DROP"), "slugs alone are labels");
}

async fn what_belongs_to_others_is_not_there(kind: Kind) {
    let stack = Stack::start(kind).await;
    let password = "a long enough one";
    let draft = json!({"name": "omar", "password": password, "role": "operator"});
    made(&stack, "/api/account/users", draft).await;
    let omar = crate::support::log_in(&stack.aivonx, "omar", password).await;
    let token = made(&stack, "/api/account/tokens", json!({"name": "root's"})).await;
    let sessions = stack.api("GET", "/api/account/sessions", Value::Null).await;
    let session = sessions.json()[0]["id"].as_str().unwrap().to_owned();
    for path in [
        format!("/api/account/tokens/{}", token["id"]),
        format!("/api/account/sessions/{session}"),
    ] {
        let refused = stack.api_as(&omar, "DELETE", &path, Value::Null).await;
        assert_eq!(refused.status, 404, "{path}: {}", refused.text());
    }
    let own = stack
        .api_as(&omar, "GET", "/api/account/tokens", Value::Null)
        .await;
    assert_eq!(own.json(), json!([]));
    let text = token["token"].as_str().unwrap();
    let me = stack
        .api_as(text, "GET", "/api/account/me", Value::Null)
        .await;
    assert_eq!(me.status, 200, "root's token still stands");
    assert_eq!(
        stack
            .api("GET", "/api/account/me", Value::Null)
            .await
            .status,
        200
    );
    // a user that is disabled or gone has no login left
    let users = stack
        .api("GET", "/api/account/users?name=omar", Value::Null)
        .await;
    let user = format!("/api/account/users/{}", users.json()["results"][0]["id"]);
    let off = stack.api("PATCH", &user, json!({"is_active": false})).await;
    assert_eq!(off.status, 200);
    let gone = stack
        .api_as(&omar, "GET", "/api/account/me", Value::Null)
        .await;
    assert_eq!(gone.status, 401, "{}", gone.text());
    assert_eq!(stack.api("DELETE", &user, Value::Null).await.status, 204);
    let gone = stack
        .api_as(&omar, "GET", "/api/account/me", Value::Null)
        .await;
    assert_eq!(gone.status, 401);
}

async fn a_stolen_refresh_token_is_told_in_the_audit(kind: Kind) {
    let stack = Stack::start(kind).await;
    let password = "a long enough one";
    let draft = json!({"name": "vera", "password": password});
    made(&stack, "/api/account/users", draft).await;
    let login = json!({"username": "vera", "password": password});
    let tokens = stack.api_as("", "POST", "/api/account/login", login).await;
    let stolen = json!({"refresh": tokens.json()["refresh"]});
    let refresh = |body: Value| stack.api_as("", "POST", "/api/account/refresh", body);
    let next = refresh(stolen.clone()).await;
    assert_eq!(next.status, 200);
    assert_eq!(refresh(stolen).await.status, 401);
    let next = json!({"refresh": next.json()["refresh"]});
    assert_eq!(refresh(next).await.status, 401, "the family is revoked");
    let path = "/api/proxy/audit?action=refresh_replayed";
    let rows = stack.api("GET", path, Value::Null).await.json();
    let row = &rows["results"][0];
    assert_eq!(
        (&rows["count"], &row["actor"], &row["object_name"]),
        (&json!(1), &json!("vera"), &json!("vera")),
        "{rows}"
    );
    assert_eq!(row["address"], "127.0.0.1", "{row}");
}

async fn no_spelling_of_an_address_leads_to_what_is_refused(kind: Kind) {
    let stack = Stack::start(kind).await;
    for url in [
        "http://169.254.169.254",
        "http://0xa9fea9fe",
        "http://2852039166",
        "http://0251.0376.0251.0376",
        "http://169.254.43518",
        "http://[::ffff:a9fe:a9fe]",
        "http://[fe80::1]",
        "http://[fe80::1%25eth0]",
        "http://metadata.google.internal.",
        "http://METADATA.google.internal",
        "http://u:p@10.0.0.1",
        "http://169.254.169.254#@10.0.0.1",
        "http://10.0.0.1\\@169.254.169.254",
        "http://[::]",
        "http://0.0.0.0",
        "http://224.0.0.1",
        "http://255.255.255.255",
        "gopher://10.0.0.1",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http://10.0.0.1:99999",
    ] {
        let draft = json!({"name": "a", "url": url});
        let answer = stack.api("POST", "/api/proxy/nodes", draft).await;
        assert_eq!(answer.status, 400, "{url}: {}", answer.text());
        assert!(answer.json()["url"].is_array(), "{url}: {}", answer.text());
    }
    for address in [
        "169.254.169.254",
        "[fe80::1]",
        "metadata.google.internal",
        "0.0.0.0",
    ] {
        let draft = json!({"name": "a", "address": address, "port": 0});
        let answer = stack.api("POST", "/api/proxy/nodes", draft).await;
        assert_eq!(answer.status, 400, "{address}: {}", answer.text());
    }
    let none = stack.api("GET", "/api/proxy/nodes", Value::Null).await;
    assert_eq!(none.json()["count"], 0);
}
