//! A browser's login: what its cookie opens, and what another site's page cannot do with it.

use http::Method;
use serde_json::{Value, json};

use super::on_both;
use crate::edge::with_tls;
use crate::support::{H2, Kind, ROOT, Response, Setup, Stack, Tls};

on_both!(
    a_session_opens_the_api_until_it_is_ended,
    a_forged_request_changes_nothing,
    a_new_login_leaves_no_old_session_behind,
);

const BEGIN: &str = "/api/account/session";
const JSON: &str = "Content-Type: application/json\r\n";

/// A browser that is logged in.
struct Browser {
    /// Its `Cookie` line.
    cookie: String,
    csrf: String,
}

/// The values of all headers of a name.
fn all<'a>(answer: &'a Response, name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
    let values = answer.headers.iter().filter(named);
    values.map(|(_, value)| value.as_str())
}

/// What a browser would send back.
fn cookies(answer: &Response) -> String {
    let pairs: Vec<_> = all(answer, "set-cookie")
        .filter_map(|cookie| cookie.split(';').next())
        .collect();
    pairs.join("; ")
}

async fn begin(stack: &Stack, lines: &str) -> Response {
    let body = json!({"username": "root", "password": ROOT}).to_string();
    let lines = format!("{JSON}{lines}");
    stack.send("POST", BEGIN, &lines, &body).await
}

impl Browser {
    async fn log_in(stack: &Stack) -> Self {
        let answer = begin(stack, "Origin: http://localhost\r\n").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self {
            cookie: format!("Cookie: {}\r\n", cookies(&answer)),
            csrf: answer.json()["csrf_token"].as_str().unwrap().to_owned(),
        }
    }

    async fn get(&self, stack: &Stack, path: &str) -> Response {
        stack.send("GET", path, &self.cookie, "").await
    }

    /// A change, as the console's own pages send it but for these lines.
    async fn send(&self, stack: &Stack, method: &str, path: &str, lines: &str) -> Response {
        let (lines, body) = (format!("{}{JSON}{lines}", self.cookie), "{\"weight\": 3}");
        stack.send(method, path, &lines, body).await
    }
}

async fn a_session_opens_the_api_until_it_is_ended(kind: Kind) {
    let stack = Stack::start(kind).await;
    let answer = begin(&stack, "User-Agent: Firefox\r\n").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["user"]["name"], "root");
    let set: Vec<_> = all(&answer, "set-cookie").collect();
    let (session, csrf) = (set[0], set[1]);
    assert!(
        session.starts_with("aivonx_session=")
            && session.ends_with("; Path=/; Max-Age=604800; SameSite=Lax; HttpOnly"),
        "{session}"
    );
    assert!(
        csrf.starts_with("csrftoken=") && !csrf.contains("HttpOnly"),
        "{csrf}"
    );

    let browser = Browser {
        cookie: format!("Cookie: {}\r\n", cookies(&answer)),
        csrf: answer.json()["csrf_token"].as_str().unwrap().to_owned(),
    };
    let me = browser.get(&stack, "/api/account/me").await;
    assert_eq!((me.status, &me.json()["name"]), (200, &json!("root")));
    let listed = browser.get(&stack, "/api/account/sessions").await.json();
    let own: Vec<_> = listed.as_array().unwrap().iter().collect();
    let own = own.iter().find(|login| login["is_this"] == true).unwrap();
    assert_eq!(
        (&own["kind"], &own["user_agent"], &own["address"]),
        (&json!("session"), &json!("Firefox"), &json!("127.0.0.1"))
    );

    // from another login of the same user
    let path = format!("/api/account/sessions/{}", own["id"].as_str().unwrap());
    assert_eq!(stack.api("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(browser.get(&stack, "/api/account/me").await.status, 401);

    let browser = Browser::log_in(&stack).await;
    let out = browser
        .send(&stack, "POST", "/api/account/logout", "")
        .await;
    assert_eq!(out.status, 204);
    let cleared: Vec<_> = all(&out, "set-cookie").collect();
    assert!(
        cleared
            .iter()
            .all(|cookie| cookie.contains("=; Path=/; Max-Age=0;"))
            && cleared.len() == 2,
        "{cleared:?}"
    );
    assert_eq!(browser.get(&stack, "/api/account/me").await.status, 401);
}

async fn a_forged_request_changes_nothing(kind: Kind) {
    let stack = Stack::start(kind).await;
    let sim = super::node().await;
    let node = format!("/api/proxy/nodes/{}", stack.register("gpu-1", &sim).await);
    let (browser, other) = (Browser::log_in(&stack).await, Browser::log_in(&stack).await);
    let token = |of: &Browser| format!("X-CSRF-Token: {}\r\n", of.csrf);
    let forged = [
        String::new(),
        "X-CSRF-Token: \r\n".to_owned(),
        "X-CSRF-Token: guessed\r\n".to_owned(),
        token(&other),
        format!("Origin: https://evil.example\r\n{}", token(&browser)),
        format!("Origin: null\r\n{}", token(&browser)),
        format!("Origin: http://localhost:81\r\n{}", token(&browser)),
        format!(
            "Referer: https://evil.example/localhost\r\n{}",
            token(&browser)
        ),
    ];
    for lines in &forged {
        for (method, path) in [
            ("PATCH", node.as_str()),
            ("PUT", &node),
            ("DELETE", &node),
            ("POST", "/api/proxy/nodes"),
            ("POST", "/api/proxy/fleet/import"),
            ("PUT", "/api/account/password"),
            ("POST", "/api/account/tokens"),
        ] {
            let answer = browser.send(&stack, method, path, lines).await;
            assert_eq!(
                answer.status,
                403,
                "{method} {path} {lines}: {}",
                answer.text()
            );
            assert!(answer.text().contains("CSRF"), "{}", answer.text());
        }
        // reading is what other sites' pages may have done, and see nothing of
        let read = stack
            .send("GET", &node, &format!("{}{lines}", browser.cookie), "")
            .await;
        assert_eq!(
            (read.status, &read.json()["weight"]),
            (200, &json!(1)),
            "{lines}"
        );
    }
    // nor can a page log its visitor in as somebody else, or out
    let evil = "Origin: https://evil.example\r\n";
    assert_eq!(begin(&stack, evil).await.status, 403);
    let out = browser
        .send(&stack, "POST", "/api/account/logout", evil)
        .await;
    assert_eq!(out.status, 403);

    for lines in [
        token(&browser),
        format!("X-CSRFToken: {}\r\n", browser.csrf),
        format!("Origin: http://localhost\r\n{}", token(&browser)),
    ] {
        let answer = browser.send(&stack, "PATCH", &node, &lines).await;
        assert_eq!(answer.status, 200, "{lines}: {}", answer.text());
        assert_eq!(answer.json()["weight"], 3);
    }
    // a bearer token is nothing that a browser adds by itself
    let answer = stack.api("PATCH", &node, json!({"weight": 4})).await;
    assert_eq!(answer.status, 200);
}

async fn a_new_login_leaves_no_old_session_behind(kind: Kind) {
    let stack = Stack::start(kind).await;
    let first = Browser::log_in(&stack).await;
    let again = begin(&stack, &first.cookie).await;
    assert_eq!(again.status, 200);
    let second = format!("Cookie: {}\r\n", cookies(&again));
    assert_ne!(first.cookie, second);
    assert_eq!(first.get(&stack, "/api/account/me").await.status, 401);
    // two sessions at once: one of them was put there by somebody else
    let third = Browser::log_in(&stack).await;
    let both = format!(
        "{}; {}\r\n",
        second.trim_end(),
        third.cookie.trim_start_matches("Cookie: ").trim_end()
    );
    assert_eq!(
        stack.send("GET", "/api/account/me", &both, "").await.status,
        401
    );
    assert_eq!(
        stack
            .send("GET", "/api/account/me", &second, "")
            .await
            .status,
        200
    );
    let refused = json!({"username": "root", "password": "wrong"}).to_string();
    let refused = stack.send("POST", BEGIN, JSON, &refused).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("set-cookie"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_cookie_never_leaves_it() {
    let (folder, tls) = (tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let setup = with_tls(Setup::serve().env("ROOT_PASSWORD", ROOT), folder.path());
    let stack = Stack::alone(setup, ROOT).await;
    let browser = H2::tls(stack.aivonx.tls.unwrap(), &tls).await;
    let body = json!({"username": "root", "password": ROOT}).to_string();
    let answer = browser.post(BEGIN, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let set: Vec<_> = all(&answer, "set-cookie").collect();
    assert!(
        set[0].starts_with("__Host-aivonx_session=") && set[0].contains("; Secure; HttpOnly"),
        "{set:?}"
    );
    assert!(set[1].ends_with("; Secure"), "{set:?}");
    let mut head = browser.head(Method::GET, "/api/account/me");
    let cookie = cookies(&answer);
    head.headers_mut().insert("cookie", cookie.parse().unwrap());
    assert_eq!(browser.send(head, &[]).await.status, 200);
    // the plain port takes neither the cookie nor a claim that TLS was spoken
    for claim in [
        "",
        "X-Forwarded-Proto: https\r\n",
        "X-Aivonx-Scheme: https\r\n",
    ] {
        let lines = format!("Cookie: {cookie}\r\n{claim}");
        let plain = stack.send("GET", "/api/account/me", &lines, "").await;
        assert_eq!(plain.status, 401, "{claim}");
    }
}
