//! Origins of the configuration, as browsers meet them.

use super::quick;
use crate::support::{Client, Setup};

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
