//! The account of a measurement, which all connections of the load keep.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::answer::Answer;
use crate::process::Memory;

/// The account of a measurement.
pub(crate) struct Tally {
    /// Behind a lock only because tasks must be `Send`; there is one thread.
    state: std::sync::Mutex<State>,
    reached: Notify,
    count: u64,
}

#[derive(Default)]
struct State {
    counts: bool,
    latencies_ns: Vec<u32>,
    non_2xx: u64,
    errors: u64,
    /// What the first error was.
    first_error: Option<String>,
}

impl Tally {
    pub(crate) fn new(count: Option<u64>) -> Self {
        Self {
            state: std::sync::Mutex::default(),
            reached: Notify::new(),
            count: count.unwrap_or(u64::MAX),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().expect("nobody panics while holding it");
        change(&mut state)
    }

    /// From now on answers count.
    pub(crate) fn start(&self) {
        self.with(|state| state.counts = true);
    }

    /// From now on they do not.
    pub(crate) fn stop(&self) {
        self.with(|state| state.counts = false);
    }

    /// Waits until the wanted number of requests is reached.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Counts an answer that should have had `chunks` lines, or what went wrong.
    pub(crate) fn note(&self, answer: &io::Result<Answer>, chunks: usize, took: Duration) {
        self.with(|state| {
            if !state.counts {
                return;
            }
            match answer {
                Ok(answer) if !(200..300).contains(&answer.status) => state.non_2xx += 1,
                Ok(answer) if answer.lines != chunks => {
                    state.errors += 1;
                    let text = format!("{} lines instead of {chunks}", answer.lines);
                    state.first_error.get_or_insert(text);
                }
                Ok(_) => state.latencies_ns.push(took.as_nanos() as u32),
                Err(error) => {
                    state.errors += 1;
                    state.first_error.get_or_insert(error.to_string());
                }
            }
            if state.latencies_ns.len() as u64 >= self.count {
                state.counts = false;
                self.reached.notify_one();
            }
        });
    }

    /// The account in JSON; CPU in seconds.
    pub(crate) fn report(&self, took: f64, cpu: f64, memory: Memory) -> Value {
        self.with(|state| {
            state.latencies_ns.sort_unstable();
            let requests = state.latencies_ns.len();
            let at = |share: f64| {
                let index = (requests as f64 * share) as usize;
                let found = state
                    .latencies_ns
                    .get(index.min(requests.saturating_sub(1)));
                found.map(|nanos| f64::from(*nanos) / 1e3)
            };
            json!({
                "requests": requests,
                "seconds": took,
                "requests_per_second": requests as f64 / took,
                "errors": state.errors,
                "first_error": state.first_error,
                "non_2xx": state.non_2xx,
                "p50_us": at(0.5),
                "p99_us": at(0.99),
                "cpu_seconds": cpu,
                "cpu_us_per_request": cpu * 1e6 / requests as f64,
                "rss_kb": memory.rss_kb,
            })
        })
    }
}
