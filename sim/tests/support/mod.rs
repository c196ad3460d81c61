//! What the tests of this crate share: a raw client, the recorded store, scrubbing of answers.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod client;
pub(crate) mod recorded;
pub(crate) mod scrub;

use std::time::Duration;

/// Waits until `check` holds; panics with `what` after ten seconds.
pub(crate) async fn until(what: &str, check: impl Fn() -> bool) {
    let waiting = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .is_err()
    {
        panic!("never: {what}");
    }
}
