//! The first start: `root` and its password, the Ollama that is there already, and who may try which password.

use std::path::Path;

use serde_json::{Value, json};

use super::node;
use crate::support::{Aivonx, ROOT, Setup, Stack, get, json_post, until};
use crate::support::{Client, Response};

const LOGIN: &str = "/api/account/login";

async fn log_in(aivonx: &Aivonx, password: &str) -> Response {
    let body = json!({"username": "root", "password": password}).to_string();
    let mut client = Client::connect(aivonx.addr).await;
    client.send(json_post(aivonx.addr, LOGIN, &body)).await;
    client.response().await
}

/// The password that a first start printed.
fn made_up(aivonx: &Aivonx) -> Option<String> {
    let log = aivonx.log();
    let (_, after) = log.split_once("with the password ")?;
    after.split_whitespace().next().map(str::to_owned)
}

fn in_folder(folder: &Path) -> Setup {
    Setup::serve().data(folder)
}

#[tokio::test]
async fn a_password_is_made_up_and_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let aivonx = in_folder(folder.path()).start().await;
    let password = made_up(&aivonx).expect("it is printed");
    assert_eq!(log_in(&aivonx, &password).await.status, 200);
    drop(aivonx);
    let again = in_folder(folder.path()).start().await;
    assert_eq!(made_up(&again), None, "it is printed once");
    assert_eq!(log_in(&again, &password).await.status, 200);
}

#[tokio::test]
async fn the_environments_password_counts_at_the_first_start_only() {
    let folder = tempfile::tempdir().unwrap();
    let aivonx = in_folder(folder.path())
        .env("ROOT_PASSWORD", ROOT)
        .start()
        .await;
    assert_eq!(made_up(&aivonx), None);
    assert!(!aivonx.log().contains(ROOT), "a secret in the log");
    assert_eq!(log_in(&aivonx, ROOT).await.status, 200);
    drop(aivonx);
    let later = in_folder(folder.path()).env("ROOT_PASSWORD", "another one entirely");
    let later = later.start().await;
    assert_eq!(log_in(&later, "another one entirely").await.status, 401);
    assert_eq!(log_in(&later, ROOT).await.status, 200);
}

/// What the predecessor came with is good for this machine, where its owner alone can try it.
#[tokio::test]
async fn changeme_opens_nothing_beyond_this_machine() {
    let aivonx = Setup::serve()
        .env("ROOT_PASSWORD", "changeme")
        .set("TRUSTED_PROXIES", "[127.0.0.9]")
        .start()
        .await;
    assert_eq!(log_in(&aivonx, "changeme").await.status, 200);
    let body = json!({"username": "root", "password": "changeme"}).to_string();
    let far = json_post(aivonx.addr, LOGIN, &body);
    let far = far.replace("\r\n\r\n", "\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
    let mut client = Client::connect_from([127, 0, 0, 9], aivonx.addr).await;
    client.send(far).await;
    assert_eq!(client.response().await.status, 401);

    let refused = tokio::task::spawn_blocking(|| {
        let folder = tempfile::tempdir().unwrap();
        std::process::Command::new(env!("CARGO_BIN_EXE_aivonx"))
            .args(["serve", "--listen=0.0.0.0:0", "--ops-listen=127.0.0.1:0"])
            .args(["--control-listen=127.0.0.1:0", "--data"])
            .arg(folder.path())
            .env("ROOT_PASSWORD", "changeme")
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("ROOT_PASSWORD is one that anybody would try"),
        "{said}"
    );
    assert!(!said.contains("changeme"), "{said}");
}

#[tokio::test]
async fn an_ollama_on_the_default_port_is_the_first_node_once() {
    let sim = node().await;
    let address = sim.url().trim_start_matches("http://").to_owned();
    let setup = || {
        let setup = Setup::serve().env("ROOT_PASSWORD", ROOT);
        setup.env("AIVONX_CONTROL_PLANE__LOCAL_OLLAMA", &address)
    };
    let mut stack = Stack::alone(setup(), ROOT).await;
    until("its models are there", || async {
        get(stack.aivonx.addr, "/api/tags")
            .await
            .text()
            .contains("tiny")
    })
    .await;
    assert!(
        stack.aivonx.log().contains(&address),
        "{}",
        stack.aivonx.log()
    );
    let nodes = stack
        .api("GET", "/api/proxy/nodes", Value::Null)
        .await
        .json();
    assert_eq!(nodes["results"][0]["name"], "local");
    // who takes it out does not find it again
    let path = format!("/api/proxy/nodes/{}", nodes["results"][0]["id"]);
    assert_eq!(stack.api("DELETE", &path, Value::Null).await.status, 204);
    stack.aivonx.kill();
    stack.start_again().await;
    let nodes = stack
        .api("GET", "/api/proxy/nodes", Value::Null)
        .await
        .json();
    assert_eq!(nodes["count"], 0);

    // and what is no Ollama, or not there, is no node
    for address in [stack.aivonx.ops.to_string(), "127.0.0.1:1".to_owned()] {
        let setup = Setup::serve()
            .env("ROOT_PASSWORD", ROOT)
            .env("AIVONX_CONTROL_PLANE__LOCAL_OLLAMA", &address);
        let other = Stack::alone(setup, ROOT).await;
        let nodes = other
            .api("GET", "/api/proxy/nodes", Value::Null)
            .await
            .json();
        assert_eq!(nodes["count"], 0, "{address}");
    }
}
