//! TLS to Postgres and Redis: what is checked, and what an operator reads when it does not fit.

use std::process::Command;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use aivonx_test_servers::Postgres;

use crate::support::front::Authority;
use crate::support::{Secured, Setup, Stack, chat, post, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_planes_work_over_tls_alone_and_find_servers_again_that_were_away() {
    let node = SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny")));
    let (node, stack) = (node.await.unwrap(), Stack::secured().await);
    let apart = stack.apart.as_ref().unwrap();
    let over_tls = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE client_addr IS NOT NULL";
    assert_eq!(apart.postgres.sql("test_0", over_tls).unwrap(), "t");
    stack.register("gpu-1", &node).await;
    serves(&stack).await;

    tokio::task::block_in_place(|| {
        apart.redis.stop();
        apart.postgres.stop().unwrap();
    });
    assert_eq!(
        stack.aivonx.ops("/readyz").0,
        200,
        "requests need neither of them"
    );
    tokio::task::block_in_place(|| {
        apart.redis.start();
        apart.postgres.start().unwrap();
    });
    stack.aivonx.metric_is("aivonx_bus_connected", 1.0).await;
    until("a change is taken", || async {
        let body = serde_json::json!({ "weight": 3 });
        let changed = stack.api("PATCH", "/api/proxy/nodes/1", body).await;
        changed.status == 200
    })
    .await;
    serves(&stack).await;
}

async fn serves(stack: &Stack) {
    until("requests are served", || async {
        let answer = post(stack.aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        answer.status == 200
    })
    .await;
}

/// What `aivonx migrate` says of a database, and whether it came in.
fn migrate(url: &str) -> (bool, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_aivonx"))
        .args(["migrate", "--database", url])
        .output()
        .unwrap();
    let words = String::from_utf8(ran.stderr).unwrap();
    (ran.status.success(), words)
}

#[test]
fn a_database_is_as_sure_of_itself_as_sslmode_asks() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Secured::start(folder.path());
    let url = servers.postgres.database().unwrap();
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let right = servers.authority.display();
    let wrong = Authority::new().write_to(folder.path(), "another.pem");
    let wrong = wrong.display();
    for (url, query, refused) in [
        (&url, "sslmode=disable".to_owned(), Some("no encryption")),
        (&url, "sslmode=prefer".to_owned(), None),
        (&url, "sslmode=require".to_owned(), None),
        (&url, "sslmode=verify-ca".to_owned(), Some("UnknownIssuer")),
        (
            &url,
            format!("sslmode=verify-ca&sslrootcert={wrong}"),
            Some("UnknownIssuer"),
        ),
        // of libpq: authorities that are named are asked
        (
            &url,
            format!("sslmode=require&sslrootcert={wrong}"),
            Some("UnknownIssuer"),
        ),
        (
            &url,
            format!("sslmode=verify-full&sslrootcert={right}"),
            None,
        ),
        (
            &elsewhere,
            format!("sslmode=verify-ca&sslrootcert={right}"),
            None,
        ),
        (
            &elsewhere,
            format!("sslmode=verify-full&sslrootcert={right}"),
            Some("not valid for name"),
        ),
    ] {
        let (is_in, words) = migrate(&format!("{url}?{query}"));
        assert_eq!(is_in, refused.is_none(), "{query}: {words}");
        assert!(
            refused.is_none_or(|part| words.contains(part)),
            "{query}: {words}"
        );
    }
    let plain = Postgres::new().unwrap();
    let url = plain.database().unwrap();
    let (is_in, words) = migrate(&format!("{url}?sslmode=require"));
    assert!(
        !is_in && words.contains("server does not support TLS"),
        "{words}"
    );
    assert!(migrate(&url).0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_whose_authority_is_unknown_is_not_heard_and_the_log_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let servers = tokio::task::spawn_blocking(move || Secured::start(&path));
    let redis = servers.await.unwrap().redis;
    let wrong = Authority::new().write_to(folder.path(), "another.pem");
    let plain = redis.url().replace("rediss", "redis");
    for (url, ca, words) in [
        (redis.url(), None, "UnknownIssuer"),
        (redis.url(), wrong.to_str(), "UnknownIssuer"),
        (plain, None, "the bus is not heard"),
    ] {
        let mut setup = Setup::bus(&url, &folder.path().join("state")).not_ready();
        if let Some(ca) = ca {
            setup = setup.set("BUS__CA_FILE", ca);
        }
        let aivonx = setup.start().await;
        until("the log says so", || async {
            aivonx.log().contains("the bus is not heard")
        })
        .await;
        assert!(aivonx.log().contains(words), "{url}: {}", aivonx.log());
        assert_eq!(aivonx.metric("aivonx_bus_connected"), 0.0);
    }
}
