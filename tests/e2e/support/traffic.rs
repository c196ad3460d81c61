//! Requests that flow while something else is done to a house. Not one of them may fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{chat, post, until};

/// Requests one after another until it is stopped; all of them must be answered.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Traffic {
    /// Begins, through this data plane.
    pub(crate) fn start(addr: SocketAddr) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&done));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let answer = post(addr, "/api/chat", &chat("tiny", 2, true)).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, done, task }
    }

    /// Waits until some more requests were answered.
    pub(crate) async fn flows(&self) {
        let before = self.done.load(Ordering::Relaxed);
        until("requests flow", || async {
            self.done.load(Ordering::Relaxed) > before + 5
        })
        .await;
    }

    /// Ends it; fails if a request did.
    pub(crate) async fn end(self) {
        self.flows().await;
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
