//! Users, roles, tokens: who may do what, and what ends a login.

use serde_json::{Value, json};

use super::on_both;
use crate::support::{Kind, Stack};

on_both!(
    roles_may_what_their_permissions_say,
    a_stranger_hears_nothing_of_what_else_is_wrong,
    a_refresh_token_is_used_once_and_a_replay_ends_its_family,
    a_changed_password_ends_what_went_before,
    a_personal_token_does_no_more_than_its_role,
    guessing_is_slowed_down,
);

/// What needs no login.
const OPEN: [&str; 6] = [
    "/api/health",
    "/api/proxy",
    "/api/account/login",
    "/api/account/refresh",
    "/api/account/logout",
    "/api/account/session",
];

/// Every path of the API with its methods, from the document that the program serves.
async fn operations(stack: &Stack) -> Vec<(String, String)> {
    let lines = "Accept: application/json\r\n";
    let schema = stack
        .send("GET", "/api/schema?format=json", lines, "")
        .await
        .json();
    let paths = schema["paths"].as_object().unwrap().clone();
    let each = paths.into_iter().flat_map(|(path, item)| {
        let methods: Vec<_> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|name| name.to_uppercase())
            .collect();
        methods
            .into_iter()
            .map(move |method| (method, path.clone()))
    });
    each.collect()
}

async fn user(stack: &Stack, name: &str, role: &str) -> String {
    let draft = json!({"name": name, "password": "a long enough one", "role": role});
    let made = stack.api("POST", "/api/account/users", draft).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(made.json()["password"].is_null() && !made.text().contains("hash"));
    let login = json!({"username": name, "password": "a long enough one"});
    let tokens = stack.api_as("", "POST", "/api/account/login", login).await;
    tokens.json()["access"].as_str().unwrap().to_owned()
}

async fn roles_may_what_their_permissions_say(kind: Kind) {
    let stack = Stack::start(kind).await;
    let viewer = user(&stack, "vera", "viewer").await;
    let operator = user(&stack, "omar", "operator").await;
    let operations = operations(&stack).await;
    assert!(operations.len() > 40, "{operations:?}");
    for (method, path) in operations {
        let concrete = path.replace("{id}", "999");
        let ask = |token: &'static str| async {
            stack
                .api_as(token, &method, &concrete, Value::Null)
                .await
                .status
        };
        let anonymous = ask("").await;
        assert_eq!(
            anonymous == 401,
            !OPEN.contains(&path.as_str()),
            "{method} {path}: {anonymous}"
        );
        // a stream has no end: who may follow it stands in `events`
        if OPEN.contains(&path.as_str()) || path == "/api/proxy/events" {
            continue;
        }
        let own = path.starts_with("/api/account/") && !path.starts_with("/api/account/users");
        let as_viewer = stack
            .api_as(&viewer, &method, &concrete, Value::Null)
            .await
            .status;
        let as_operator = stack
            .api_as(&operator, &method, &concrete, Value::Null)
            .await
            .status;
        let admins = path.starts_with("/api/account/users")
            || ["/api/proxy/fleet/import", "/api/proxy/fleet/epoch"].contains(&path.as_str());
        let reads =
            method == "GET" && !["/api/proxy/audit", "/api/proxy/fleet"].contains(&path.as_str());
        assert_eq!(
            as_viewer == 403,
            admins || !(own || reads),
            "viewer: {method} {path}: {as_viewer}"
        );
        assert_eq!(
            as_operator == 403,
            admins,
            "operator: {method} {path}: {as_operator}"
        );
        assert!(as_viewer < 500 && as_operator < 500, "{method} {path}");
    }
}

async fn a_refresh_token_is_used_once_and_a_replay_ends_its_family(kind: Kind) {
    let stack = Stack::start(kind).await;
    let login = json!({"username": "root", "password": "correct horse battery"});
    let first = stack
        .api_as("", "POST", "/api/account/login", login)
        .await
        .json();
    let (root, api) = (&stack, "/api/account/refresh");
    let exchange = |token: Value| async move {
        root.api_as("", "POST", api, json!({"refresh": token}))
            .await
    };
    let second = exchange(first["refresh"].clone()).await;
    assert_eq!(second.status, 200, "{}", second.text());
    let access = second.json()["access"].as_str().unwrap().to_owned();
    assert_eq!(
        stack
            .api_as(&access, "GET", "/api/account/me", Value::Null)
            .await
            .status,
        200
    );

    assert_eq!(
        exchange(first["refresh"].clone()).await.status,
        401,
        "it was used"
    );
    assert_eq!(
        exchange(second.json()["refresh"].clone()).await.status,
        401,
        "its family has ended"
    );
    for bad in [json!("avr_x"), json!(""), json!("eyJ.a.b")] {
        assert_eq!(exchange(bad).await.status, 401);
    }
    let audit = stack
        .api(
            "GET",
            "/api/proxy/audit?action=refresh_replayed",
            Value::Null,
        )
        .await
        .json();
    assert_eq!(audit["count"], 1);
}

async fn a_changed_password_ends_what_went_before(kind: Kind) {
    let stack = Stack::start(kind).await;
    let root = &stack;
    let change = |current: &'static str, new: &'static str| async move {
        let body = json!({"current": current, "new": new});
        root.api("PUT", "/api/account/password", body).await
    };
    assert_eq!(change("wrong", "another long one").await.status, 400);
    let weak = change("correct horse battery", "changeme").await;
    assert_eq!(
        (weak.status, weak.json()["new"].is_array()),
        (400, true),
        "{}",
        weak.text()
    );
    let done = change("correct horse battery", "another long one").await;
    assert_eq!(done.status, 204, "{}", done.text());
    let login = |password: &'static str| async move {
        let body = json!({"username": "root", "password": password});
        root.api_as("", "POST", "/api/account/login", body).await
    };
    assert_eq!(login("correct horse battery").await.status, 401);
    assert_eq!(login("another long one").await.status, 200);
    let sessions = stack.api("GET", "/api/account/sessions", Value::Null).await;
    assert!(
        [200, 401].contains(&sessions.status),
        "an access token of the same second may live on"
    );
}

async fn a_personal_token_does_no_more_than_its_role(kind: Kind) {
    let stack = Stack::start(kind).await;
    let draft = json!({"name": "dashboard", "role": "viewer"});
    let made = stack.api("POST", "/api/account/tokens", draft).await.json();
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("avp_"));
    assert_eq!(
        stack
            .api_as(token, "GET", "/api/proxy/nodes", Value::Null)
            .await
            .status,
        200
    );
    let node = json!({"name": "x", "url": "http://127.0.0.1:9"});
    assert_eq!(
        stack
            .api_as(token, "POST", "/api/proxy/nodes", node)
            .await
            .status,
        403
    );
    let list = stack.api("GET", "/api/account/tokens", Value::Null).await;
    assert!(list.text().contains("dashboard") && !list.text().contains(token));
    let path = format!("/api/account/tokens/{}", made["id"]);
    assert_eq!(stack.api("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(
        stack
            .api_as(token, "GET", "/api/proxy/nodes", Value::Null)
            .await
            .status,
        401
    );
}

async fn guessing_is_slowed_down(kind: Kind) {
    let stack = Stack::start(kind).await;
    let mut last = None;
    for number in 0..40 {
        let body = json!({"username": "nobody", "password": format!("guess {number}")});
        let answer = stack.api_as("", "POST", "/api/account/login", body).await;
        if answer.status == 429 {
            last = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let slowed = last.expect("forty guesses were let through");
    assert!(
        slowed
            .header("retry-after")
            .is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0))
    );
    // somebody else's account is not concerned
    let login = json!({"username": "root", "password": "correct horse battery"});
    assert_eq!(
        stack
            .api_as("", "POST", "/api/account/login", login)
            .await
            .status,
        200
    );
}

/// Whatever is wrong with a request besides: who is not logged in learns no more than that.
async fn a_stranger_hears_nothing_of_what_else_is_wrong(kind: Kind) {
    let stack = Stack::start(kind).await;
    for (method, path) in operations(&stack).await {
        let path = path.replace("{id}", "none");
        if OPEN.contains(&path.as_str()) {
            continue;
        }
        for token in ["", "forged"] {
            for (lines, body) in [
                ("Content-Type: application/json\r\n", "{\"unknown\": "),
                ("Content-Type: text/csv\r\nIf-Match: what\r\n", "a,b"),
            ] {
                let lines = match token {
                    "" => lines.to_owned(),
                    token => format!("{lines}Authorization: Bearer {token}\r\n"),
                };
                let asked = format!("{path}?limit=many&format=odd");
                let answer = stack.send(&method, &asked, &lines, body).await;
                assert_eq!(answer.status, 401, "{method} {asked}: {}", answer.text());
            }
        }
    }
}
