//! Rates and concurrent requests: counted by key, by user of a trusted key, by address.

use aivonx_sim::Fault;

use super::{ask, ask_on, bearer, chat, key, node};
use crate::support::{Client, Setup, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_counted_by_key_and_by_user_of_a_trusted_key() {
    let node = node(&["tiny"]).await;
    let document = format!(
        "keys:\n{}{}{}",
        key("plain", ", rate: 2/h"),
        key("other", ", rate: 2/h"),
        key("ui", ", rate: 1/h, user_header: X-User")
    );
    let aivonx = Setup::nodes_with(&[&node], "", &document).start().await;
    let tags = async |headers: String| ask(aivonx.addr, &headers, "GET", "/api/tags", "").await;

    for status in [200, 200, 429] {
        assert_eq!(tags(bearer("plain")).await.status, status);
    }
    assert_eq!(tags(bearer("other")).await.status, 200, "another key");
    assert_eq!(tags(String::new()).await.status, 200, "nobody's limit");
    let forged = format!("{}X-User: somebody-else\r\n", bearer("plain"));
    let answer = tags(forged).await;
    assert_eq!(answer.status, 429, "this key may not name users");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1800).contains(&wait), "{wait}");
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .starts_with("too many requests")
    );

    for user in ["ann", "bob"] {
        let headers = format!("{}X-User: {user}\r\n", bearer("ui"));
        assert_eq!(tags(headers.clone()).await.status, 200, "{user}");
        assert_eq!(tags(headers).await.status, 429, "{user}");
    }
    aivonx
        .metric_is("aivonx_rejections_total{reason=\"rate_limit\"}", 4.0)
        .await;
    let openai = ask(
        aivonx.addr,
        &bearer("plain"),
        "POST",
        "/v1/chat/completions",
        &chat("tiny"),
    )
    .await;
    assert_eq!(openai.json()["error"]["type"], "rate_limit_error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_up_stays_used_up_over_a_change_of_the_fleet() {
    let node = node(&["tiny"]).await;
    let text = |weight| {
        let keys = format!("keys:\n{}", key("plain", ", rate: 1/h"));
        format!(
            "{keys}nodes: [{{name: a, url: \"{}\", weight: {weight}}}]",
            node.url()
        )
    };
    let aivonx = Setup::fleet(text(1)).start().await;
    assert_eq!(
        ask(aivonx.addr, &bearer("plain"), "GET", "/api/tags", "")
            .await
            .status,
        200
    );
    aivonx.write_fleet(&text(2));
    aivonx.metric_is("aivonx_fleet_revision", 2.0).await;
    assert_eq!(
        ask(aivonx.addr, &bearer("plain"), "GET", "/api/tags", "")
            .await
            .status,
        429
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_requests_are_counted_until_they_end_however_they_end() {
    let node = node(&["tiny"]).await;
    let document = format!("keys:\n{}", key("one", ", max_concurrent: 1"));
    let aivonx = Setup::nodes_with(&[&node], "", &document).start().await;
    node.fault(Fault::Hang);
    let mut waiting = Client::connect(aivonx.addr).await;
    let body = crate::support::chat("tiny", 3, true);
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{body}",
        bearer("one"),
        body.len()
    );
    waiting.send(&head).await;
    until("the node has it", || async {
        aivonx.metric("aivonx_inflight{node=\"n0\"}") == 1.0
    })
    .await;

    let answer = ask(aivonx.addr, &bearer("one"), "GET", "/api/tags", "").await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(
        ask(aivonx.addr, "", "GET", "/api/tags", "").await.status,
        200,
        "no key, no limit"
    );

    drop(waiting); // the client leaves
    until("its place is free", || async {
        ask(aivonx.addr, &bearer("one"), "GET", "/api/tags", "")
            .await
            .status
            == 200
    })
    .await;
    node.clear_faults();
    let mut client = Client::connect(aivonx.addr).await;
    for _ in 0..3 {
        let answer = ask_on(&mut client, &bearer("one"), "POST", "/api/chat", &body).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anonymous_addresses_of_a_network_are_counted_apart() {
    let node = node(&["tiny"]).await;
    let document = "anonymous: [{cidr: 10.0.0.0/8, id: office, rate: 1/h, models: [tiny]}]";
    let aivonx = Setup::nodes_with(&[&node], "", document)
        .set("TRUSTED_PROXIES", "[127.0.0.1]")
        .start()
        .await;
    let from = async |address: &str| {
        let headers = format!("X-Forwarded-For: {address}\r\n");
        ask(aivonx.addr, &headers, "GET", "/api/tags", "")
            .await
            .status
    };
    assert_eq!((from("10.0.0.1").await, from("10.0.0.1").await), (200, 429));
    assert_eq!(from("10.0.0.2").await, 200);
    assert_eq!(from("192.0.2.1").await, 401);
    // a request is counted once it has ended, which its client may see before
    until("all three are counted", || async {
        aivonx.metric("aivonx_key_requests_total{key=\"office\"}") == 3.0
    })
    .await;
}
