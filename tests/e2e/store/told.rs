//! Who did what: the access line and the log of changes.

use serde_json::Value;

use super::{node, send, start};
use crate::support::{Aivonx, Setup, until};

/// The digest of the key `secret-ann`.
const DIGEST: &str = "6605071d1ba9df54361201b2e8c1c1299cff7d37f7c784136074b697156d9f31";

/// The log line of this message about this request.
async fn logged(aivonx: &Aivonx, message: &str, id: &str) -> Value {
    let find = || {
        let log = aivonx.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .into_iter()
            .find(|line| line["message"] == message && line["request.id"] == id)
    };
    until(&format!("{message} of {id}"), || async { find().is_some() }).await;
    find().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_with_its_models_its_key_and_its_user() {
    let (a, b) = (start(node()).await, start(node()).await);
    let document = format!(
        "anonymous: never\nkeys: [{{id: ann, sha256: {DIGEST}, scopes: [manage], user_header: X-User}}]"
    );
    for nodes in [vec![&a], vec![&a, &b]] {
        let aivonx = Setup::nodes_with(&nodes, "", &document).start().await;
        for (id, method, path, body, model, to) in [
            (
                "pull-1",
                "POST",
                "/api/pull",
                r#"{"model":"moa"}"#,
                "moa:latest",
                "",
            ),
            (
                "copy-1",
                "POST",
                "/api/copy",
                r#"{"source":"tiny","destination":"me/Copy:1"}"#,
                "tiny:latest",
                "me/Copy:1",
            ),
            (
                "create-1",
                "POST",
                "/api/create",
                r#"{"name":"mine","from":"tiny"}"#,
                "mine:latest",
                "",
            ),
            (
                "delete-1",
                "DELETE",
                "/api/delete",
                r#"{"name":"mine"}"#,
                "mine:latest",
                "",
            ),
            (
                "delete-2",
                "DELETE",
                "/api/delete",
                r#"{"name":"no name"}"#,
                "",
                "",
            ),
        ] {
            let headers = format!(
                "Authorization: Bearer secret-ann\r\nX-User: ann@example.com\r\nX-Request-Id: {id}\r\n"
            );
            let answer = send(aivonx.addr, method, path, &headers, body).await;
            assert_eq!(answer.status == 200, !model.is_empty(), "{}", answer.text());
            let line = aivonx.access_line(id).await;
            let seen = (&line["model"], line["to"].as_str().unwrap_or_default());
            assert_eq!(seen, (&Value::from(model), to), "{line}");
            assert_eq!(
                (&line["key"], &line["user"]),
                (&"ann".into(), &"ann@example.com".into())
            );
            if nodes.len() == 1 || model.is_empty() {
                continue; // relayed: the access line is all
            }
            let is_job = ["/api/pull", "/api/create"].contains(&path);
            let message = if is_job {
                "store job ended"
            } else {
                "store change ended"
            };
            let line = logged(&aivonx, message, id).await;
            assert_eq!(
                (
                    &line["key"],
                    &line["user"],
                    &line["model"],
                    &line["nodes.done"]
                ),
                (
                    &"ann".into(),
                    &"ann@example.com".into(),
                    &model.into(),
                    &2.into()
                ),
                "{line}"
            );
            assert_eq!(line["to"].as_str().unwrap_or_default(), to);
        }
        for model in ["moa", "me/Copy:1"] {
            let body = format!(r#"{{"model":"{model}"}}"#);
            let headers = "Authorization: Bearer secret-ann\r\n";
            send(aivonx.addr, "DELETE", "/api/delete", headers, &body).await;
        }
    }
}
