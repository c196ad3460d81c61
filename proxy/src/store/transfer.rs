//! A pull or create on several nodes as one job: a task that outlives its client where the
//! document says so. It asks each node in its turn, merges what they say, and hands on lines at
//! Ollama's own pace; a client that reads slowly gets fewer of them and holds nobody up.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Stores;
use super::answer::{Ending, Told};
use super::asked::Shown;
use super::call::{Failure, Question};
use super::follow::follow;
use super::progress::{Line, Progress};
use super::targets::Target;
use crate::fleet::access::Grant;
use crate::telemetry::metrics::StoreJob;

/// Between two writings of lines, as in Ollama.
const TICK: Duration = Duration::from_millis(60);
/// Lines of nodes that may wait to be merged.
const EVENTS: usize = 64;

/// What is to be done.
pub(crate) struct Transfer {
    /// The route, for metrics and logs.
    pub(crate) route: &'static str,
    /// Its model, for logs.
    pub(crate) shown: Shown,
    pub(crate) asker: Asker,
    pub(crate) question: Question,
    pub(crate) targets: Vec<Target>,
    /// Whether it goes on when its client leaves.
    pub(crate) outlives_client: bool,
    /// Held as long as it runs: a drain waits for it.
    pub(crate) _keep: Box<dyn Any + Send>,
}

/// Who wants a change.
#[derive(Clone)]
pub(crate) struct Asker {
    /// The id of the request, for logs.
    pub(crate) request: String,
    /// What it rests on: a job ends with it, whether its client is there or not.
    pub(crate) grant: Arc<Grant>,
    /// The end user that the holder of a key named.
    pub(crate) user: String,
}

/// A piece of the answer.
pub(crate) enum Piece {
    /// Whole lines.
    Lines(Bytes),
    /// The last.
    End(Ending),
    /// The last as well: the key was taken out.
    Revoked,
}

/// The client's end of a job. Dropping it tells the job that the client left.
pub(crate) struct Running {
    pieces: mpsc::Receiver<Piece>,
}

impl Running {
    /// The next piece; none comes after the end.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }
}

/// What a worker tells its job.
enum Event {
    /// It waits for its turn.
    Waits,
    /// It has its turn.
    Begins,
    Said(usize, Line),
    Ended(usize, Result<(), Failure>),
}

struct Job {
    stores: Arc<Stores>,
    transfer: Transfer,
    progress: Progress,
    told: Vec<Option<Result<(), Failure>>>,
    /// Whether a node said something, so that the answer is a stream whatever its end.
    is_alive: bool,
    /// Lines of failed nodes until then: where all fail at once, their status is the answer.
    held: Vec<serde_json::Value>,
    waiting: usize,
    working: usize,
    client: Option<mpsc::Sender<Piece>>,
    events: mpsc::Receiver<Event>,
    /// Dropping it ends the work on every node.
    workers: JoinSet<()>,
    began: Instant,
    _counted: StoreJob,
}

impl Stores {
    /// Begins a transfer.
    pub(crate) fn begin(self: &Arc<Self>, transfer: Transfer) -> Running {
        self.turns.set(self.fleet.load().pull().at_once);
        let (client, pieces) = mpsc::channel(1);
        let (tell, events) = mpsc::channel(EVENTS);
        let mut workers = JoinSet::new();
        for (part, target) in transfer.targets.iter().enumerate() {
            let worker = Worker {
                stores: Arc::clone(self),
                part,
                target: target.clone(),
                question: transfer.question.clone(),
                tell: tell.clone(),
            };
            workers.spawn(worker.run());
        }
        let job = Job {
            stores: Arc::clone(self),
            progress: Progress::new(transfer.targets.len()),
            told: vec![None; transfer.targets.len()],
            is_alive: false,
            held: Vec::new(),
            waiting: 0,
            working: 0,
            client: Some(client),
            events,
            workers,
            began: Instant::now(),
            _counted: self.metrics.store_job(transfer.route),
            transfer,
        };
        tokio::spawn(job.run());
        Running { pieces }
    }
}

impl Job {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = self.stores.stopping.subscribe();
        let is_revoked = loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.note(event),
                    None => break false,
                },
                _ = tick.tick() => {
                    if self.transfer.asker.grant.is_revoked() {
                        break true;
                    }
                    self.write();
                }
                () = left(self.client.as_ref()) => {
                    self.client = None;
                    if !self.transfer.outlives_client {
                        return self.log("cancelled: its client left");
                    }
                    let Asker { request, .. } = &self.transfer.asker;
                    tracing::info!(route = self.transfer.route, model = self.transfer.shown.model, request.id = request, "client left; it goes on");
                }
                _ = stopping.wait_for(|stops| *stops), if self.client.is_none() => {
                    return self.log("cancelled: its client left, and this process drains");
                }
            }
        };
        if is_revoked {
            self.revoke().await;
        } else {
            self.finish().await;
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Waits => {
                self.waiting += 1;
                let asked = self
                    .transfer
                    .targets
                    .iter()
                    .filter(|target| target.away.is_none());
                if self.working == 0 && self.waiting == asked.count() {
                    self.alive();
                    self.progress
                        .tell(json!({ "status": "waiting for other pulls to end" }));
                }
            }
            Event::Begins => self.working += 1,
            Event::Said(part, line) => {
                self.alive();
                self.progress.heard(part, &line);
            }
            Event::Ended(part, result) => self.ended(part, result),
        }
    }

    fn alive(&mut self) {
        self.is_alive = true;
        for line in self.held.drain(..) {
            self.progress.tell(line);
        }
    }

    fn ended(&mut self, part: usize, result: Result<(), Failure>) {
        self.progress.ended(part, result.is_ok());
        match &result {
            Ok(()) => self.alive(),
            Err(failure) if self.told.len() > 1 => {
                let node = self.transfer.targets[part].node.name();
                let line =
                    json!({ "status": format!("node {node}: {}", failure.text), "node": node });
                self.held.push(line);
                if self.is_alive {
                    self.alive();
                }
            }
            Err(_) => {}
        }
        self.told[part] = Some(result);
    }

    /// Hands on what there is to tell, if the client has taken the last of it.
    fn write(&mut self) {
        if let Some(client) = &self.client
            && let Ok(place) = client.try_reserve()
        {
            let lines = self.progress.lines();
            if !lines.is_empty() {
                place.send(Piece::Lines(lines.into()));
            }
        }
    }

    /// Ends the work on every node first: a client that reads slowly must not hold that up.
    async fn revoke(mut self) {
        self.workers.abort_all();
        self.log("cancelled: its key was taken out");
        if let Some(client) = self.client.take() {
            let _ = client.send(Piece::Revoked).await; // or it has left
        }
    }

    async fn finish(mut self) {
        let names = self
            .transfer
            .targets
            .iter()
            .map(|target| target.node.name());
        let told: Vec<_> = names
            .zip(std::mem::take(&mut self.told))
            .map(|(node, result)| Told {
                node: node.to_owned(),
                result: result.unwrap_or_else(|| Err(Failure::of("it was not asked to the end"))),
            })
            .collect();
        let failed = told.iter().filter(|told| told.result.is_err()).count();
        let ending = Ending::of_transfer(&told);
        let Self {
            transfer, began, ..
        } = &self;
        tracing::info!(
            route = transfer.route,
            model = transfer.shown.model,
            key = %transfer.asker.grant.id,
            user = transfer.asker.user,
            request.id = transfer.asker.request,
            nodes.done = told.len() - failed,
            nodes.failed = failed,
            client.left = self.client.is_none(),
            duration_ms = began.elapsed().as_millis() as u64,
            "store job ended"
        );
        let lines = self.progress.lines();
        if let Some(client) = self.client.take() {
            // a client that left in the meantime is told nothing
            if !lines.is_empty() {
                let _ = client.send(Piece::Lines(lines.into())).await;
            }
            let _ = client.send(Piece::End(ending)).await;
        }
    }

    fn log(&self, how: &'static str) {
        let asker = &self.transfer.asker;
        tracing::info!(
            route = self.transfer.route,
            model = self.transfer.shown.model,
            key = %asker.grant.id,
            user = asker.user,
            request.id = asker.request,
            duration_ms = self.began.elapsed().as_millis() as u64,
            how,
            "store job ended"
        );
    }
}

/// Ends when the client has left; never where it has left long ago.
async fn left(client: Option<&mpsc::Sender<Piece>>) {
    match client {
        Some(client) => client.closed().await,
        None => std::future::pending().await,
    }
}

/// The work on one node.
struct Worker {
    stores: Arc<Stores>,
    part: usize,
    target: Target,
    question: Question,
    tell: mpsc::Sender<Event>,
}

impl Worker {
    async fn run(self) {
        let result = match self.target.away {
            Some(why) => Err(Failure::of(format!("it is {why}"))),
            None => self.work().await,
        };
        if result.is_ok() {
            // before the client hears of it: its next request may be for this model
            self.stores.known.read(&self.target.node).await;
        }
        self.tell(Event::Ended(self.part, result)).await;
    }

    async fn work(&self) -> Result<(), Failure> {
        let _turn = match self.stores.turns.take_now() {
            Some(turn) => turn,
            None => {
                self.tell(Event::Waits).await;
                self.stores.turns.take().await
            }
        };
        self.tell(Event::Begins).await;
        let mut answer = self
            .stores
            .caller
            .ask(&self.target.node, &self.question)
            .await?;
        if answer.status() != 200 || !answer.is_lines() {
            return super::answer::judged(&answer.whole().await?);
        }
        let said = |line| self.tell(Event::Said(self.part, line));
        follow(&mut answer, said).await
    }

    async fn tell(&self, event: Event) {
        // the job ends its workers before it stops listening
        let _ = self.tell.send(event).await;
    }
}
