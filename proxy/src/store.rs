//! Everything that changes what nodes have: pull, create, copy, delete, push, blobs, unloading.
//!
//! ```text
//! asked      what the body says
//! targets    which nodes, from what is known of the fleet; `sticky` for blobs
//!            one node: the request is relayed as it is, by the gateway
//!            several:
//! transfer   pull and create: a job, node by node in `turns`, merged by `progress`
//! each       copy, delete, unload: all at once, one answer each
//! ordered    a pull at one node, for a control plane; `layers` counts its bytes
//! call       one question to one node; `follow` reads its lines
//! answer     what the client is told at the end
//! known      the fleet knows of it before the client does
//! ```

pub(crate) mod answer;
pub(crate) mod asked;
pub(crate) mod call;
mod follow;
mod known;
mod layers;
pub(crate) mod ordered;
mod progress;
pub(crate) mod sticky;
pub(crate) mod targets;
pub(crate) mod transfer;
mod turns;
pub(crate) mod unload;

use std::sync::Arc;
use std::time::Instant;

use aivonx_shared::config::TimeoutConfig;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::fleet::{Fleet, Node};
use crate::telemetry::metrics::Metrics;
use answer::{Told, judged};
use asked::Shown;
use call::{Caller, Failure, Question, Whole};
use known::Known;
use targets::Target;
use transfer::Asker;
use turns::Turns;

pub(crate) use turns::Turn;

/// Nodes that copy, delete or unload at once, for one request: each takes a moment.
const QUICK_AT_ONCE: usize = 16;

/// A copy or delete.
pub(crate) struct Change {
    /// The route, for metrics and logs.
    pub(crate) route: &'static str,
    /// Its models, for logs.
    pub(crate) shown: Shown,
    pub(crate) asker: Asker,
    pub(crate) question: Question,
    pub(crate) targets: Vec<Target>,
}

impl Change {
    /// Says in the log who did what.
    fn log(&self, told: &[Told], began: Instant) {
        let failed = told.iter().filter(|told| told.result.is_err()).count();
        tracing::info!(
            route = self.route,
            model = self.shown.model,
            to = self.shown.to.as_deref(),
            key = %self.asker.grant.id,
            user = self.asker.user,
            request.id = self.asker.request,
            nodes.done = told.len() - failed,
            nodes.failed = failed,
            duration_ms = began.elapsed().as_millis() as u64,
            "store change ended"
        );
    }
}

/// The stores of the fleet. One for all requests.
pub(crate) struct Stores {
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
    caller: Arc<Caller>,
    pub(crate) known: Arc<Known>,
    turns: Turns,
    /// Whether the process drains: jobs without a client end.
    stopping: watch::Sender<bool>,
}

impl Stores {
    /// Over `fleet`, with the timeouts of requests.
    pub(crate) fn new(fleet: Arc<Fleet>, timeouts: TimeoutConfig, metrics: Arc<Metrics>) -> Self {
        let caller = Arc::new(Caller::new(timeouts));
        Self {
            known: Arc::new(Known::new(Arc::clone(&fleet), Arc::clone(&caller))),
            caller,
            fleet,
            metrics,
            turns: Turns::new(),
            stopping: watch::Sender::new(false),
        }
    }

    /// A turn for a pull or create that is relayed; `None` while all are taken.
    pub(crate) fn turn_now(&self) -> Option<Turn> {
        self.turns.set(self.fleet.load().pull().at_once);
        self.turns.take_now()
    }

    /// Ends the jobs whose client has left: a drain waits for clients, not for them.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Asks every node, sixteen at a time; answers come in the order of the nodes.
    async fn each(
        &self,
        nodes: Vec<Arc<Node>>,
        question: Question,
    ) -> Vec<(Arc<Node>, Result<Whole, Failure>)> {
        let places = Arc::new(Semaphore::new(QUICK_AT_ONCE));
        let mut asking = JoinSet::new();
        for (index, node) in nodes.iter().enumerate() {
            let (caller, node) = (Arc::clone(&self.caller), Arc::clone(node));
            let (places, question) = (Arc::clone(&places), question.clone());
            asking.spawn(async move {
                let _place = places.acquire_owned().await;
                (index, caller.whole(&node, &question).await)
            });
        }
        let mut answers: Vec<_> = nodes
            .into_iter()
            .map(|node| (node, Err(Failure::of("it was not asked to the end"))))
            .collect();
        while let Some(done) = asking.join_next().await {
            if let Ok((index, answer)) = done {
                answers[index].1 = answer;
            }
        }
        answers
    }

    /// A copy or delete on every target, to its end even if the client leaves: half of it done
    /// would be worse. `keep` is held as long.
    pub(crate) async fn change(
        self: &Arc<Self>,
        change: Change,
        keep: impl Send + 'static,
    ) -> Vec<Told> {
        let stores = Arc::clone(self);
        let began = Instant::now();
        let names: Vec<_> = change
            .targets
            .iter()
            .map(|target| target.node.name().to_owned())
            .collect();
        let work = tokio::spawn(async move {
            let _counted = stores.metrics.store_job(change.route);
            let told = stores.change_each(&change).await;
            change.log(&told, began);
            drop(keep);
            told
        });
        work.await.unwrap_or_else(|_| {
            let lost = |node| Told {
                node,
                result: Err(Failure::of("it was not asked to the end")),
            };
            names.into_iter().map(lost).collect()
        })
    }

    async fn change_each(&self, change: &Change) -> Vec<Told> {
        let targets = &change.targets;
        let mut told: Vec<_> = targets
            .iter()
            .map(|target| Told {
                node: target.node.name().to_owned(),
                result: Err(Failure::of(format!(
                    "it is {}",
                    target.away.unwrap_or("away")
                ))),
            })
            .collect();
        let there: Vec<_> = targets
            .iter()
            .enumerate()
            .filter(|(_, target)| target.away.is_none())
            .map(|(index, _)| index)
            .collect();
        let nodes = there.iter().map(|index| Arc::clone(&targets[*index].node));
        let answers = self.each(nodes.collect(), change.question.clone()).await;
        let changed: Vec<_> = answers.iter().map(|(node, _)| Arc::clone(node)).collect();
        for (index, (_, answer)) in there.into_iter().zip(answers) {
            told[index].result = answer.and_then(|whole| judged(&whole));
        }
        self.known.read_all(changed).await;
        told
    }
}
