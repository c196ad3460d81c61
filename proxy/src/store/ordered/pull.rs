//! One ordered pull: what is known of it, and the work at its node.

use std::future::ready;
use std::sync::Arc;

use aivonx_shared::operations::{PullSeen, PullState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::Stores;
use super::super::answer::judged;
use super::super::call::{Failure, Question};
use super::super::follow::follow;
use super::super::layers::Layers;
use super::super::progress::Line;
use super::super::targets::Target;

/// Longest message that is kept, characters: a node may say more.
const LONGEST: usize = 500;

/// What is known of a pull.
pub(super) struct Pull(watch::Sender<Known>);

#[derive(Default)]
struct Known {
    seen: PullSeen,
    /// Whether somebody wants it to end.
    unwanted: bool,
    ended: Option<Instant>,
}

impl Pull {
    /// One that goes on, of which a node has said nothing yet.
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// How far it is.
    pub(super) fn seen(&self) -> PullSeen {
        self.0.borrow().seen.clone()
    }

    /// When it ended.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.0.borrow().ended
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn end(&self) -> PullSeen {
        self.0.send_modify(|known| known.unwanted = true);
        let mut known = self.0.subscribe();
        // never an error: we hold the sender
        let _ = known.wait_for(|known| known.ended.is_some()).await;
        self.seen()
    }

    /// Ends once somebody wants it to.
    async fn unwanted(&self) {
        let mut known = self.0.subscribe();
        let _ = known.wait_for(|known| known.unwanted).await;
    }

    fn says(&self, message: &str) {
        self.0
            .send_modify(|known| known.seen.message = cut(message));
    }

    fn heard(&self, line: &Line, layers: &Mutex<Layers>) {
        let mut layers = layers.lock();
        layers.heard(line);
        self.0.send_modify(|known| {
            known.seen.message = cut(&line.status);
            (known.seen.completed, known.seen.total) = layers.bytes();
        });
    }

    fn has_ended(&self, state: PullState, message: Option<&str>) {
        self.0.send_modify(|known| {
            known.seen.state = state;
            if let Some(message) = message {
                known.seen.message = cut(message);
            }
            known.ended = Some(Instant::now());
        });
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// The work of a pull.
pub(super) struct Work {
    pub(super) stores: Arc<Stores>,
    /// The asker's id, for logs.
    pub(super) id: String,
    /// The model, as logs show it.
    pub(super) model: String,
    /// Why the node is not asked, if so.
    pub(super) refusal: Option<String>,
    pub(super) target: Target,
    pub(super) question: Question,
}

impl Work {
    /// Works to the end, or until nobody wants it any more, or the process is to end: then another data
    /// plane is asked.
    pub(super) async fn run(self, pull: Arc<Pull>) {
        let began = Instant::now();
        let _counted = self.stores.metrics.store_job(self.question.path);
        let mut stopping = self.stores.stopping.subscribe();
        // leaving the select closes the connection, which ends the work of the node
        let (state, message) = tokio::select! {
            biased;
            () = pull.unwanted() => (PullState::Cancelled, Some("cancelled".to_owned())),
            _ = stopping.wait_for(|stops| *stops) => {
                (PullState::Cancelled, Some("the data plane is on its way out".to_owned()))
            }
            done = self.work(&pull) => match done {
                Ok(()) => (PullState::Success, None),
                Err(failure) => (PullState::Error, Some(failure.text)),
            },
        };
        tracing::info!(
            pull.id = self.id,
            model = self.model,
            node.name = self.target.node.name(),
            ended = ?state,
            cause = message,
            duration_ms = began.elapsed().as_millis() as u64,
            "ordered pull ended"
        );
        pull.has_ended(state, message.as_deref());
    }

    async fn work(&self, pull: &Pull) -> Result<(), Failure> {
        let (stores, node) = (&self.stores, &self.target.node);
        if let Some(why) = &self.refusal {
            return Err(Failure::of(why));
        }
        if let Some(why) = self.target.away {
            return Err(Failure::of(format!("node {} is {why}", node.name())));
        }
        let _turn = match stores.turn_now() {
            Some(turn) => turn,
            None => {
                pull.says("waiting for other pulls to end");
                stores.turns.take().await
            }
        };
        self.ask(pull).await?;
        // before the asker hears of it: whoever it tells may use the model
        stores.known.read(node).await;
        Ok(())
    }

    async fn ask(&self, pull: &Pull) -> Result<(), Failure> {
        let caller = &self.stores.caller;
        let mut answer = caller.ask(&self.target.node, &self.question).await?;
        if answer.status() != 200 || !answer.is_lines() {
            return judged(&answer.whole().await?);
        }
        let layers = Mutex::default();
        let said = |line| {
            pull.heard(&line, &layers);
            ready(())
        };
        follow(&mut answer, said).await
    }
}
