//! What every test needs: a running aivonx, a raw HTTP client, and waiting for conditions.

mod aivonx;
mod client;

pub(crate) use aivonx::{Aivonx, Setup};
pub(crate) use client::{Client, End, Response, get, json_post, post};

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
