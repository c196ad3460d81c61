//! What every test needs: a running aivonx, a raw HTTP client, and waiting for conditions.

mod aivonx;
mod client;
mod estate;
pub(crate) mod front;
mod h2;
mod relay;
mod stack;
mod traffic;

pub(crate) use aivonx::{Aivonx, Setup, fleet_yaml, ops, replace};
pub(crate) use client::{Client, End, Response, get, json_post, post};
pub(crate) use estate::Estate;
pub(crate) use h2::{H2, Tls};
pub(crate) use stack::{Kind, ROOT, Secured, Stack, log_in};
pub(crate) use traffic::Traffic;

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take before the test fails. Generous: it is no measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `what` holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tick.tick().await;
    }
}

/// A chat request as a client would send it.
pub(crate) fn chat(model: &str, tokens: u32, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"Why is the sky blue?"}}],"options":{{"num_predict":{tokens}}}}}"#
    )
}

/// Loads a model on nodes beside the proxy, and waits until the proxy knows: from then on requests
/// one after another are spread over all of them.
pub(crate) async fn warm(aivonx: &Aivonx, nodes: &[&aivonx_sim::SimNode], model: &str) {
    for node in nodes {
        let body = format!(r#"{{"model":"{model}","keep_alive":-1}}"#);
        assert_eq!(post(node.addr(), "/api/generate", &body).await.status, 200);
    }
    until("the proxy knows where it is loaded", || async {
        let ps = get(aivonx.addr, "/api/ps").await.json();
        ps["models"][0]["running_on"]
            .as_array()
            .is_some_and(|on| on.len() == nodes.len())
    })
    .await;
}

/// The last chat that a node saw; probes come in between.
pub(crate) fn last_chat(node: &aivonx_sim::SimNode) -> aivonx_sim::SeenRequest {
    let seen = node.requests();
    seen.into_iter()
        .rfind(|request| request.path == "/api/chat")
        .unwrap()
}
