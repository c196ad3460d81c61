//! One pull at one node. A data plane does it; this asks how far it is, tries again what may go better, and
//! moves to another data plane when one goes. The id says which pull it is, so that nothing is begun twice.

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::operations::{PullOrder, PullSeen, PullState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Runner, Timing};
use crate::planes::{Plane, PlaneError};
use crate::store::{NodeProgress, StoreError};

/// Words after which another try would end alike.
const FINAL: [&str; 6] = [
    "file does not exist", // no such model
    "invalid model name",
    "no space left",
    "unauthorized",
    "requires a newer version",
    "cloud is disabled", // the data plane's own
];

/// How often a pull may move to another data plane.
const MOVES: u32 = 20;

/// Why a pull is ended from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody asked for it.
    Cancelled,
    /// The node was taken out.
    NodeGone,
}

/// A pull at one node.
pub(super) struct Pull {
    pub(super) runner: Arc<Runner>,
    /// Its id without the number of the try.
    pub(super) id: String,
    pub(super) node: i64,
    pub(super) model: String,
    pub(super) insecure: bool,
    pub(super) stopped: watch::Receiver<Option<Stop>>,
    pub(super) tell: mpsc::Sender<(i64, NodeProgress)>,
    /// Whether it may have been begun before.
    pub(super) resumed: bool,
    /// Bytes of nodes that are done, there and altogether, where the entry stands for several.
    pub(super) before: (u64, u64),
}

/// How one try ended.
enum Ended {
    /// The node has it.
    Well(PullSeen),
    /// It failed there.
    Badly(String),
    /// The data plane went, or ended it: the same again elsewhere.
    Left(String),
    /// No data plane is there.
    Alone(String),
    /// No try would do.
    Never(String),
    Stopped(Stop),
}

/// The tries so far.
struct Tries {
    /// Of the next one.
    number: u32,
    failures: usize,
    moves: u32,
    /// Since when no data plane is there.
    alone: Option<Instant>,
    /// Data planes that did not do it.
    avoided: Vec<String>,
}

/// What follows from a try.
enum Next {
    End(NodeProgress),
    /// Another one after a while, with words for the meantime.
    Again(Duration, String),
}

impl Tries {
    fn new() -> Self {
        Self {
            number: 1,
            failures: 0,
            moves: 0,
            alone: None,
            avoided: Vec::new(),
        }
    }

    fn judge(&mut self, ended: Ended, timing: &Timing) -> Next {
        let failed = |message: String| Next::End(NodeProgress::of(NodeProgress::ERROR, message));
        match ended {
            Ended::Well(seen) => Next::End(success(&seen)),
            Ended::Stopped(stop) => Next::End(stop.progress()),
            Ended::Never(message) => failed(message),
            Ended::Left(message) if self.moves >= MOVES => failed(message),
            Ended::Left(message) => {
                self.moves += 1;
                self.number += 1;
                Next::Again(timing.look, message)
            }
            Ended::Alone(message) => {
                let since = self.alone.get_or_insert_with(Instant::now);
                if since.elapsed() >= timing.alone {
                    return failed(message);
                }
                Next::Again(timing.look, message)
            }
            Ended::Badly(message) => {
                let retry = timing.retries.get(self.failures).copied();
                let Some(wait) = retry.filter(|_| !is_final(&message)) else {
                    return failed(message);
                };
                self.failures += 1;
                self.number += 1;
                Next::Again(wait, format!("{message}; it is tried again"))
            }
        }
    }
}

impl Stop {
    /// What becomes of the node's line.
    pub(super) fn progress(self) -> NodeProgress {
        match self {
            Self::Cancelled => NodeProgress::of(NodeProgress::CANCELLED, "cancelled"),
            Self::NodeGone => NodeProgress::of(NodeProgress::ERROR, "the node was taken out"),
        }
    }
}

impl Pull {
    /// Pulls until the node has the model, or it has failed for good; tells how far it is.
    pub(super) async fn run(mut self) {
        let end = match self.entry().await {
            Ok((slug, is_many)) => self.at_each(&slug, is_many).await,
            Err(stop) => stop.progress(),
        };
        self.say(end).await;
    }

    async fn say(&self, progress: NodeProgress) {
        // nobody hears it where the claim was lost: then another one tells
        let _ = self.tell.send((self.node, progress)).await;
    }

    /// With the bytes of the nodes before it, where the entry stands for several.
    fn counted(&self, mut progress: NodeProgress) -> NodeProgress {
        if progress.total > 0 {
            progress.completed += self.before.0;
            progress.total += self.before.1;
        }
        progress
    }

    /// The node's name in the fleet document, and whether it stands for several. Waits for a database that
    /// is away.
    async fn entry(&mut self) -> Result<(String, bool), Stop> {
        loop {
            match self.runner.db.node(self.node).await {
                Ok(node) => return Ok((node.slug, node.discover != "none")),
                Err(StoreError::NotFound) => return Err(Stop::NodeGone),
                Err(_) => self.pause(self.runner.timing.claim).await?,
            }
        }
    }

    /// Waits, unless it is stopped meanwhile.
    async fn pause(&mut self, time: Duration) -> Result<(), Stop> {
        let stopped = async {
            let stop = self.stopped.wait_for(Option::is_some).await;
            match stop.map(|stop| *stop) {
                Ok(stop) => stop,
                // the job is not worked on here any more: this task ends with it, and does no more
                Err(_) => std::future::pending().await,
            }
        };
        match tokio::time::timeout(time, stopped).await {
            Ok(Some(stop)) => Err(stop),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// An entry that discovers stands for several nodes: one after another, and the first that fails ends it.
    async fn at_each(&mut self, slug: &str, is_many: bool) -> NodeProgress {
        let names = self.runner.planes.names(slug, is_many).await;
        let mut sum = NodeProgress::of(NodeProgress::ERROR, "no data plane knows an address of it");
        for name in names {
            let suffix = name.strip_prefix(slug).unwrap_or_default();
            let id = format!("{}{suffix}", self.id);
            let end = self.at(&name, &id).await;
            sum = self.counted(end);
            if sum.status != NodeProgress::SUCCESS {
                break;
            }
            self.before = (sum.completed, sum.total);
        }
        sum
    }

    /// Tries as often as it makes sense.
    async fn at(&mut self, name: &str, id: &str) -> NodeProgress {
        let order = PullOrder {
            model: self.model.clone(),
            node: name.to_owned(),
            insecure: self.insecure,
        };
        let mut tries = Tries::new();
        loop {
            let id = format!("{id}-{}", tries.number);
            let ended = self.once(&id, &order, &mut tries).await;
            let (wait, message) = match tries.judge(ended, &self.runner.timing) {
                Next::End(progress) => return progress,
                Next::Again(wait, message) => (wait, message),
            };
            let meanwhile = NodeProgress::of(NodeProgress::RUNNING, message);
            self.say(meanwhile).await;
            if let Err(stop) = self.pause(wait).await {
                return stop.progress();
            }
        }
    }

    /// One try: begins it in a data plane, or finds it there, and follows it.
    async fn once(&mut self, id: &str, order: &PullOrder, tries: &mut Tries) -> Ended {
        let stop = *self.stopped.borrow();
        if let Some(stop) = stop {
            self.end_what_was_begun(id).await;
            return Ended::Stopped(stop);
        }
        let (plane, seen) = match self.begin(id, order, &mut tries.avoided).await {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        tries.alone = None;
        let ended = self.follow(&plane, id, seen).await;
        if let Ended::Left(_) = ended {
            tries.avoided.push(plane.instance);
        }
        ended
    }

    async fn begin(
        &mut self,
        id: &str,
        order: &PullOrder,
        avoided: &mut Vec<String>,
    ) -> Result<(Plane, PullSeen), Ended> {
        if !self.runner.planes.has_token() {
            return Err(Ended::Never(PlaneError::NoToken.to_string()));
        }
        let live = self.runner.planes.live().await;
        if self.resumed {
            if let Some(found) = self.find(&live, id).await {
                return Ok(found);
            }
            self.resumed = false; // the tries after this one were not begun either
        }
        let plane = pick(&live, avoided)
            .ok_or_else(|| Ended::Alone("no data plane is there to do it".to_owned()))?;
        match self.runner.planes.put_pull(&plane, id, order).await {
            Ok(seen) => Ok((plane, seen)),
            Err(error) => {
                avoided.push(plane.instance);
                let is_last = live.iter().all(|plane| avoided.contains(&plane.instance));
                Err(not_begun(&error, is_last))
            }
        }
    }

    /// Its last worker died after the job was to end.
    async fn end_what_was_begun(&self, id: &str) {
        if !self.resumed {
            return;
        }
        let live = self.runner.planes.live().await;
        if let Some((plane, _)) = self.find(&live, id).await {
            self.end(&plane, id).await;
        }
    }

    /// The data plane that knows the pull, where it may have been begun before.
    async fn find(&self, live: &[Plane], id: &str) -> Option<(Plane, PullSeen)> {
        for plane in live {
            if let Ok(seen) = self.runner.planes.pull(plane, id).await {
                return Some((plane.clone(), seen));
            }
        }
        None
    }

    async fn follow(&mut self, plane: &Plane, id: &str, mut seen: PullSeen) -> Ended {
        let mut misses = 0;
        loop {
            match seen.state {
                PullState::Running => self.say(self.counted(running(&seen))).await,
                PullState::Success => return Ended::Well(seen),
                PullState::Error => return Ended::Badly(seen.message),
                // nobody here asked for it: the data plane is on its way out
                PullState::Cancelled => return Ended::Left("the data plane ended it".to_owned()),
            }
            if let Err(stop) = self.pause(self.runner.timing.look).await {
                self.end(plane, id).await;
                return Ended::Stopped(stop);
            }
            match self.runner.planes.pull(plane, id).await {
                Ok(now) => (seen, misses) = (now, 0),
                Err(error) if error.is_not_found() => return Ended::Left(error.to_string()),
                Err(error) => {
                    misses += 1;
                    if misses >= self.runner.timing.misses {
                        return Ended::Left(error.to_string());
                    }
                }
            }
        }
    }

    /// Ends it where it goes on. A data plane that does not hear it, twice, may finish it for nobody.
    async fn end(&self, plane: &Plane, id: &str) {
        for _ in 0..2 {
            match self.runner.planes.end_pull(plane, id).await {
                Ok(_) => return,
                Err(error) if error.is_not_found() => return,
                Err(_) => tokio::time::sleep(self.runner.timing.look).await,
            }
        }
    }
}

/// One that was not avoided before; where all were, any.
fn pick(live: &[Plane], avoided: &mut Vec<String>) -> Option<Plane> {
    let mut left: Vec<_> = live
        .iter()
        .filter(|plane| !avoided.contains(&plane.instance))
        .collect();
    if left.is_empty() {
        avoided.clear();
        left = live.iter().collect();
    }
    if left.is_empty() {
        return None;
    }
    Some(left[fastrand::usize(..left.len())].clone())
}

/// `is_last`: no other data plane is left to be asked.
fn not_begun(error: &PlaneError, is_last: bool) -> Ended {
    let words = error.to_string();
    if error.is_of_the_token() && is_last {
        return Ended::Never(format!(
            "{words}; proxy.operations_token and control_plane.operations_token must be the same"
        ));
    }
    match error {
        _ if !is_last => Ended::Left(words),
        // it is on its way out, or has its hands full: both pass
        PlaneError::Silent { .. } | PlaneError::Refused { status: 503, .. } => Ended::Alone(words),
        _ => Ended::Badly(words),
    }
}

fn running(seen: &PullSeen) -> NodeProgress {
    NodeProgress {
        status: NodeProgress::RUNNING.to_owned(),
        message: seen.message.clone(),
        completed: seen.completed,
        total: seen.total,
    }
}

fn success(seen: &PullSeen) -> NodeProgress {
    NodeProgress {
        status: NodeProgress::SUCCESS.to_owned(),
        ..running(seen)
    }
}

fn is_final(message: &str) -> bool {
    FINAL.iter().any(|words| message.contains(words))
}
