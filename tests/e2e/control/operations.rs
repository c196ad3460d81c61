//! The control plane's own metrics and probes, and a control plane that comes up before its database.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Command;

use aivonx_test_servers::Postgres;
use serde_json::{Value, json};

use super::{house, on_both};
use crate::support::{Client, Kind, Setup, Stack, get, ops, until};

on_both!(metrics_tell_what_the_control_plane_does);

/// Where the control plane's metrics are.
fn shown_at(stack: &Stack) -> SocketAddr {
    let apart = stack.apart.as_ref();
    apart.map_or(stack.aivonx.ops, |apart| apart.control_ops)
}

async fn metrics_tell_what_the_control_plane_does(kind: Kind) {
    let (_sim, stack, id) = house(kind).await;
    let wrong = json!({"username": "root", "password": "not the password"});
    let wrong = stack.api_as("", "POST", "/api/account/login", wrong).await;
    assert_eq!(wrong.status, 401);
    let path = format!("/api/proxy/nodes/{id}");
    assert_eq!(stack.api("GET", &path, Value::Null).await.status, 200);
    stack.api("GET", "/api/proxy/no/such", Value::Null).await;
    let text = || ops(shown_at(&stack), "/metrics").1;
    let lines = [
        "build_info{version=\"0.1.0\"} 1",
        "logins_total{result=\"ok\"} 1",
        "logins_total{result=\"refused\"} 1",
        "requests_total{method=\"POST\",route=\"/api/account/login\",status=\"4xx\"} 1",
        "requests_total{method=\"GET\",route=\"/api/proxy/nodes/{id}\",status=\"2xx\"} 1",
        "requests_total{method=\"GET\",route=\"none\",status=\"4xx\"} 1",
        "request_duration_seconds_count{method=\"POST\",route=\"/api/proxy/nodes\"} 1",
        "store_errors_total{reason=\"unavailable\"} 0",
        "bus_connected 1",
        "publishes_total{result=\"failed\"} 0",
        "data_planes{state=\"fresh\"} 1",
        "data_planes{state=\"stale\"} 0",
        "data_plane_revision_lag 0",
        "jobs{state=\"queued\"} 0",
    ];
    for line in lines {
        let line = format!("\naivonx_control_plane_{line}\n");
        until(&line, || async { text().contains(&line) }).await;
    }
    let text = text();
    assert!(!text.contains("no/such"), "{text}");
    let of = |prefix: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(prefix));
        line.map_or(0.0, |value| value.trim().parse::<f64>().unwrap())
    };
    assert!(of("aivonx_control_plane_fleet_revision ") >= 1.0);
    assert!(of("aivonx_control_plane_publishes_total{result=\"applied\"} ") >= 1.0);
    assert!(of("aivonx_control_plane_store_connections{state=\"idle\"} ") >= 1.0);
    assert_eq!(
        text.contains("\naivonx_fleet_revision "),
        kind == Kind::Alone,
        "in one process both are shown"
    );
    let mut names = HashSet::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        assert!(names.insert(line.to_owned()), "{line} comes twice");
    }
}

#[tokio::test]
async fn the_operations_listener_says_what_is_away() {
    let (_sim, stack, _) = house(Kind::Many).await;
    let apart = stack.apart.as_ref().unwrap();
    let ask = |path| ops(apart.control_ops, path);
    assert_eq!(ask("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(ask("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(ask("/elsewhere").0, 404);

    apart.redis.stop();
    until("it misses the bus", || async { ask("/readyz").0 == 503 }).await;
    let (_, why) = ask("/readyz");
    assert!(why.contains("bus") && !why.contains("database"), "{why}");
    until("the gauge says so", || async {
        ask("/metrics").1.contains("_bus_connected 0\n")
    })
    .await;
    apart.redis.start();
    until("it is ready again", || async { ask("/readyz").0 == 200 }).await;

    apart.postgres.stop().unwrap();
    let (status, why) = ask("/readyz");
    assert!(
        status == 503 && why.contains("database") && !why.contains("bus"),
        "{status}: {why}"
    );
    assert_eq!(ask("/healthz").0, 200, "no reason to start it again");
    until("the failures are counted", || async {
        let text = ask("/metrics").1;
        !text.contains("_store_errors_total{reason=\"unavailable\"} 0\n")
            && !text.contains("_jobs{")
    })
    .await;
    let check = check_health(apart.control_ops);
    assert!(
        check.0 == Some(1) && check.1.contains("database"),
        "{check:?}"
    );
    apart.postgres.start().unwrap();
    until("it is ready again", || async { ask("/readyz").0 == 200 }).await;
    assert_eq!(check_health(apart.control_ops).0, Some(0));
}

fn check_health(address: SocketAddr) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_aivonx"))
        .args(["healthcheck", "--ops", &address.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

async fn health_at(control: SocketAddr) -> (u16, Option<String>) {
    let mut client = Client::connect(control).await;
    client
        .send("GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    match client.response_to("GET").await {
        Some(answer) => (
            answer.status,
            answer.header("retry-after").map(str::to_owned),
        ),
        // one server was taking over from the other
        None => (0, None),
    }
}

#[tokio::test]
async fn a_control_plane_waits_for_a_postgres_that_comes_later() {
    let mut stack = Stack::start(Kind::Many).await;
    let apart = stack.apart.as_mut().unwrap();
    apart.kill_control();
    apart.postgres.stop().unwrap();
    let control: SocketAddr = apart.start_control("127.0.0.1:0").parse().unwrap();
    until("the API says that it waits", || async {
        health_at(control).await == (503, Some("1".to_owned()))
    })
    .await;
    let (status, why) = ops(apart.control_ops, "/readyz");
    assert!(
        status == 503 && why.contains("the database cannot be reached"),
        "{status}: {why}"
    );
    assert_eq!(ops(apart.control_ops, "/healthz").0, 200);
    let (_, metrics) = ops(apart.control_ops, "/metrics");
    assert!(
        metrics.contains("store_errors_total{reason=\"unavailable\"}"),
        "{metrics}"
    );

    apart.postgres.start().unwrap();
    until("it serves", || async { health_at(control).await.0 == 200 }).await;
    until("it is ready", || async {
        ops(apart.control_ops, "/readyz").0 == 200
    })
    .await;
}

#[tokio::test]
async fn in_one_process_the_data_plane_does_not_wait_for_postgres() {
    let made = || {
        let postgres = Postgres::new().unwrap();
        let database = postgres.database().unwrap();
        postgres.stop().unwrap();
        (postgres, database)
    };
    let (postgres, database) = tokio::task::spawn_blocking(made).await.unwrap();
    let aivonx = Setup::serve()
        .env("ROOT_PASSWORD", "correct horse battery")
        .env("AIVONX_CONTROL_PLANE__DATABASE", &database)
        .not_ready()
        .start()
        .await;
    let health = || async { get(aivonx.addr, "/api/health").await.status };
    assert_eq!(health().await, 503);
    assert_eq!(get(aivonx.addr, "/").await.text(), "Ollama is running");
    assert!(aivonx.ops("/metrics").1.contains("aivonx_control_plane_"));
    postgres.start().unwrap();
    until("the control plane serves", || async {
        health().await == 200
    })
    .await;
    until("there is a fleet", || async {
        aivonx.ops("/readyz").0 == 200
    })
    .await;
}

#[tokio::test]
async fn what_waiting_cannot_heal_ends_it_at_once() {
    let stack = Stack::start(Kind::Many).await;
    let apart = stack.apart.as_ref().unwrap();
    let run = |database: String, more: [&str; 2]| {
        let output = Command::new(env!("CARGO_BIN_EXE_aivonx"))
            .args(["control-plane", "--listen", "127.0.0.1:0"])
            .args(more)
            .envs(apart.environment.iter().cloned())
            .env("AIVONX_CONTROL_PLANE__DATABASE", database)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.lines().last().unwrap_or_default().to_owned();
        (output.status.code(), said)
    };
    let own = ["--ops-listen", "127.0.0.1:0"];
    let at = format!(
        "postgres://nobody:hunter22@127.0.0.1:{}",
        apart.postgres.port()
    );
    for (database, said) in [
        (format!("{at}/test_0"), "role \"nobody\" does not exist"),
        (
            apart.postgres.url("nosuch"),
            "database \"nosuch\" does not exist",
        ),
    ] {
        let (code, words) = run(database, own);
        assert_eq!(code, Some(1), "{words}");
        assert!(
            words.contains(said) && !words.contains("hunter22"),
            "{words}"
        );
    }
    let later = apart.postgres.database().unwrap();
    let name = later.rsplit('/').next().unwrap().to_owned();
    let table = "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY, \
                 run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP); \
                 INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
    apart.postgres.sql(&name, table).unwrap();
    let (code, words) = run(later, own);
    assert!(
        code == Some(1) && words.contains("newer version"),
        "{words}"
    );

    let taken = apart.control_ops.to_string();
    let (code, words) = run(apart.postgres.url("test_0"), ["--ops-listen", &taken]);
    let said = format!("cannot listen on {taken}");
    assert!(code == Some(1) && words.contains(&said), "{words}");
}
