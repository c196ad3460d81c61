//! The same rules over HTTP/2, with prior knowledge and over TLS.

use http::{HeaderName, HeaderValue, Method};

use super::{chat, key, node};
use crate::edge::with_tls;
use crate::support::{H2, Response, Setup, Tls};

async fn post(
    h2: &H2,
    headers: &[(&'static str, &'static str)],
    path: &str,
    body: &str,
) -> Response {
    let mut head = h2.head(Method::POST, path);
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        head.headers_mut()
            .append(name, HeaderValue::from_static(value));
    }
    h2.send(head, &[body.as_bytes()]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_counts_over_http_2_as_over_http_1() {
    let (node, folder, tls) = (
        node(&["tiny", "small"]).await,
        tempfile::tempdir().unwrap(),
        Tls::make(),
    );
    tls.write(folder.path());
    let document = format!(
        "anonymous: never\nkeys:\n{}{}",
        key("some", ", models: [tiny], max_concurrent: 1"),
        key("old", ", expires: 2020-01-01")
    );
    let setup = with_tls(Setup::nodes_with(&[&node], "", &document), folder.path());
    let aivonx = setup.start().await;
    let some = ("authorization", "Bearer secret-some");
    for h2 in [
        H2::plain(aivonx.addr).await,
        H2::tls(aivonx.tls.unwrap(), &tls).await,
    ] {
        for (headers, model, want) in [
            (&[][..], "tiny", 401),
            (&[("authorization", "Bearer dummy")], "tiny", 401),
            (&[("x-api-key", "secret-old")], "tiny", 401),
            (&[("cookie", "key=secret-some")], "tiny", 401),
            (&[("x-forwarded-for", "127.0.0.1")], "tiny", 401),
            (&[some], "small", 403),
            (&[some], "tiny", 200),
            (&[("x-api-key", "secret-some")], "tiny", 200),
            (&[some, ("x-aivonx-node", "n0")], "tiny", 403),
        ] {
            let answer = post(&h2, headers, "/v1/chat/completions", &chat(model)).await;
            assert_eq!(
                answer.status,
                want,
                "{headers:?} {model}: {}",
                answer.text()
            );
        }
        let pull = post(&h2, &[some], "/api/pull", r#"{"model":"tiny"}"#).await;
        assert_eq!(pull.status, 403, "{}", pull.text());
        let refused = post(&h2, &[], "/v1/messages", &chat("tiny")).await;
        assert_eq!(refused.json()["error"]["type"], "authentication_error");
        assert_eq!(
            refused.header("www-authenticate"),
            Some("Bearer realm=\"aivonx\"")
        );
    }
}
