//! What a node wants to see of aivonx: it arrives there, and nowhere else.

use aivonx_sim::{SeenRequest, SimNode};

use super::{run, tiny};
use crate::support::{Client, Setup, chat, last_chat, post, replace, until};

const TOKEN: &str = "t0ken-of-the-node";
const HEADER: &str = "fixed header value";

fn fleet(node: &SimNode, keys: &str) -> String {
    format!("nodes: [{{name: a, url: \"{}\", {keys}}}]\n", node.url())
}

fn carries(request: &SeenRequest, token: &str) -> bool {
    request.header("authorization") == Some(format!("Bearer {token}").as_str())
        && request.header("x-team") == Some(HEADER)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_reach_the_node_on_relays_and_probes_over_the_clients_own() {
    let node = SimNode::start(tiny()).await.unwrap();
    let keys = format!("bearer_token: {TOKEN}, headers: {{X-Team: {HEADER}}}");
    let aivonx = Setup::fleet(fleet(&node, &keys))
        .env("AIVONX_LOG", "trace") // not even then
        .start()
        .await;
    let body = chat("tiny", 1, false);
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(format!(
            "POST /api/chat HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer of-the-client\r\nX-Team: red\r\nX-Team: green\r\nContent-Length: {}\r\n\r\n{body}",
            aivonx.addr,
            body.len()
        ))
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 200);

    let seen = last_chat(&node);
    assert!(carries(&seen, TOKEN), "{:?}", seen.headers);
    let sent = |name: &str| {
        let all = seen.headers.iter();
        all.filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .count()
    };
    assert_eq!((sent("authorization"), sent("x-team")), (1, 1));
    until("every kind of poll has come", || async {
        ["/", "/api/tags", "/api/version", "/api/ps"]
            .iter()
            .all(|path| node.count(path) > 0)
    })
    .await;
    assert!(
        node.requests()
            .iter()
            .all(|request| carries(request, TOKEN))
    );

    let id = answer.header("x-request-id").unwrap().to_owned();
    aivonx.access_line(&id).await;
    let answered = format!("{:?}{}", answer.headers, answer.text());
    for place in [aivonx.log(), aivonx.access_lines(), answered] {
        for secret in [TOKEN, HEADER, "of-the-client"] {
            assert!(!place.contains(secret), "{secret} in {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_credentials_sees_none() {
    let node = SimNode::start(tiny()).await.unwrap();
    let aivonx = Setup::nodes(&[&node]).start().await;
    let body = chat("tiny", 1, false);
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(format!(
            "POST /api/chat HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer of-the-client\r\nContent-Length: {}\r\n\r\n{body}",
            aivonx.addr,
            body.len()
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(last_chat(&node).header("authorization"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_have_them_left_out() {
    let node = SimNode::start(tiny()).await.unwrap();
    let keys = format!("bearer_token: {TOKEN}, headers: {{x-team: {HEADER}}}");
    let aivonx = Setup::fleet(fleet(&node, &keys)).start().await;
    let body = chat("tiny", 1, false);
    for trick in [
        "Connection: x-team, authorization, keep-alive",
        "Connection: close, X-Team",
        "Authorization: Bearer mine\r\nAuthorization: Bearer too",
        "Proxy-Authorization: Bearer mine",
        "TE: trailers\r\nX-Team: mine",
    ] {
        let mut client = Client::connect(aivonx.addr).await;
        client
            .send(format!(
                "POST /api/chat HTTP/1.1\r\nHost: {}\r\n{trick}\r\nContent-Length: {}\r\n\r\n{body}",
                aivonx.addr,
                body.len()
            ))
            .await;
        assert_eq!(client.response().await.status, 200, "{trick}");
        let seen = last_chat(&node);
        assert!(carries(&seen, TOKEN), "{trick}: {:?}", seen.headers);
        let sent = format!("{:?}", seen.headers);
        assert!(!sent.contains("mine") && !sent.contains("too"), "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_a_file_is_read_anew_when_it_changes() {
    let node = SimNode::start(tiny()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let keys = format!(
        "bearer_token_file: \"{}\", headers: {{x-team: {HEADER}}}",
        file.display()
    );
    let aivonx = Setup::fleet(fleet(&node, &keys)).start().await;
    post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert!(carries(&last_chat(&node), "first"));

    replace(&file, "second");
    until("the second is sent", || async {
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        carries(&last_chat(&node), "second")
    })
    .await;

    std::fs::remove_file(&file).unwrap();
    aivonx.metric_is("aivonx_fleet_invalid", 1.0).await;
    assert!(
        aivonx.log().contains("bearer_token_file: cannot read"),
        "{}",
        aivonx.log()
    );
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 200, "the last one stays in force");
    assert!(carries(&last_chat(&node), "second"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_tells_nothing_of_the_credentials() {
    let node = SimNode::start(tiny()).await.unwrap();
    let keys = format!("bearer_token: {TOKEN}, headers: {{x-team: {HEADER}}}");
    let aivonx = Setup::fleet(fleet(&node, &keys))
        .set("PROBE__INTERVAL", "1h")
        .start()
        .await;
    node.fault_for(
        aivonx_sim::Fault::ResetMidStream { chunks: 0 },
        aivonx_sim::FaultScope::always().path("/api/chat"),
    );
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    aivonx.write_fleet(&format!(
        "nodes:\n  - name: a\n    url: http://h\n    bearer_token: \"{TOKEN} {TOKEN}\"\n    headers: {{x-team: \"{HEADER} \"}}\n"
    ));
    aivonx.metric_is("aivonx_fleet_invalid", 1.0).await;
    for place in [aivonx.log(), aivonx.access_lines(), answer.text()] {
        assert!(!place.contains(TOKEN) && !place.contains(HEADER), "{place}");
    }
}

#[test]
fn check_config_fetches_secrets_and_never_prints_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        run(&["check-config", "--fleet", file.to_str().unwrap()])
    };
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    std::fs::write(folder.path().join("two"), format!("{TOKEN}\n{TOKEN}")).unwrap();
    let good = "nodes: [{name: a, url: \"http://h\", bearer_token_file: token, headers: {x-a: {file: token}, x-path: {env: PATH}}}]";
    assert_eq!(check(good), (Some(0), "ok: 1 node\n".into()));
    let bad = "nodes:\n  - name: a\n    url: http://h\n    bearer_token_file: two\n    headers:\n      x-a: {file: gone}\n      x-b: {env: AIVONX_NOT_SET}\n      connection: close\n";
    let (code, text) = check(bad);
    assert_eq!(code, Some(78));
    for words in [
        "line 4: nodes[0].bearer_token_file: must be a token",
        "line 6: nodes[0].headers.x-a: cannot read",
        "line 7: nodes[0].headers.x-b: the environment variable AIVONX_NOT_SET is not set",
        "line 8: nodes[0].headers.connection: is not for a document to set",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains(TOKEN), "{text}");
}
