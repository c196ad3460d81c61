//! Origins of the configuration, as browsers meet them.

use super::quick;
use crate::support::{Client, Setup, chat};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_origins_may_call_and_read_and_others_may_not() {
    let sim = quick().await;
    let origins = "['https://chat.example.com', 'https://*.trusted.example']";
    let aivonx = Setup::nodes(&[&sim])
        .set("CORS__ORIGINS", origins)
        .start()
        .await;
    for (origin, is_in) in [
        ("https://chat.example.com", true),
        ("https://a.trusted.example", true),
        ("http://localhost:3000", true),
        ("https://other.example.com", false),
        ("https://trusted.example", false),
    ] {
        for method in ["GET", "OPTIONS"] {
            let mut client = Client::connect(aivonx.addr).await;
            client
                .send(format!(
                    "{method} /api/tags HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n"
                ))
                .await;
            let answer = client.response_to(method).await.unwrap();
            let status = match (is_in, method) {
                (false, _) => 403,
                (true, "OPTIONS") => 204,
                (true, _) => 200,
            };
            assert_eq!(answer.status, status, "{method} {origin}");
            let named = answer.header("access-control-allow-origin");
            assert_eq!(named, is_in.then_some(origin), "{method} {origin}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_may_send_what_libraries_send_and_read_what_is_added() {
    let sim = quick().await;
    let aivonx = Setup::nodes(&[&sim])
        .set("CORS__ORIGINS", "['https://chat.example.com']")
        .start()
        .await;
    let ask = async |method: &str, path: &str, origin: &str| {
        let mut client = Client::connect(aivonx.addr).await;
        let body = if method == "POST" {
            chat("tiny", 1, false)
        } else {
            String::new()
        };
        client
            .send(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        client.response_to(method).await.unwrap()
    };
    for (origin, pins) in [
        ("https://chat.example.com", true),
        ("http://localhost:3000", false),
    ] {
        let preflight = ask("OPTIONS", "/v1/messages", origin).await;
        assert_eq!(preflight.status, 204);
        let lists = preflight.headers.iter();
        let lists = lists.filter(|(name, _)| name == "Access-Control-Allow-Headers");
        let allowed: Vec<String> = lists
            .flat_map(|(_, list)| list.split(',').map(str::to_ascii_lowercase))
            .collect();
        let allows = |name: &str| allowed.iter().any(|allowed| allowed == name);
        for name in [
            "authorization",
            "content-type",
            "x-api-key",
            "anthropic-version",
            "anthropic-beta",
            "anthropic-dangerous-direct-browser-access",
            "openai-organization",
            "x-stainless-helper",
            "x-stainless-retry-count",
            "x-stainless-timeout",
        ] {
            assert!(allows(name), "{name} in {allowed:?}");
        }
        assert_eq!(allows("x-aivonx-node"), pins, "{origin}");
        assert_eq!(preflight.header("access-control-expose-headers"), None);
        for (method, path) in [("GET", "/api/tags"), ("POST", "/api/chat")] {
            let answer = ask(method, path, origin).await;
            assert_eq!(answer.status, 200, "{path}");
            let exposed = answer.header("access-control-expose-headers");
            assert_eq!(
                exposed,
                Some("X-Request-Id,X-Aivonx-Node,X-Aivonx-Model,X-Aivonx-Attempts,Retry-After")
            );
        }
    }
    let answer = ask("GET", "/api/tags", "http://localhost").await;
    let same = answer.header("access-control-expose-headers");
    assert_eq!(same, None, "the same origin needs no leave");
}
