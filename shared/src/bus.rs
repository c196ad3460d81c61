//! The road between the planes: the fleet document to the data planes; reports and usage from them.
//! `memory` is for both planes in one process, `redis` for many. No request ever waits for it.

pub mod memory;
pub mod redis;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

use crate::published::Published;
use crate::report::{Load, Report};
use crate::revision::Revision;
use crate::usage_batch::UsageBatch;

/// How long a report stays after its sender fell silent. From `Report::age` on it can be told that it
/// did, long before.
pub const REPORTS_KEPT: Duration = Duration::from_secs(60);

/// Batches of usage that the bus holds at most; beyond it the oldest go, and their senders send them
/// again.
pub const USAGE_KEPT: usize = 10_000;

/// After this a batch that was taken and not acknowledged is given to whoever asks.
pub const RECLAIM: Duration = Duration::from_secs(30);

/// Loads that wait for a slow listener at most; beyond it the oldest go.
const LOADS_KEPT: usize = 256;

/// What became of a document that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is the newest one now, and was announced.
    Applied,
    /// The bus holds this one or a newer one; nothing has changed.
    Stale,
}

/// Why the bus did not do it. Trying again later is all there is to do.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It cannot be reached, or answered with an error.
    #[error("the bus does not answer: {0}")]
    Unreachable(String),
    /// What it holds is not what was written there.
    #[error("the bus holds what cannot be read: {0}")]
    Garbled(String),
}

/// A batch of usage that was taken and is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What `ack_usage` wants to see.
    pub receipt: String,
    /// The batch.
    pub batch: UsageBatch,
}

/// The road between the planes.
///
/// Calls must come from within a tokio runtime, and that of the first call must outlive the bus.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug {
    /// Makes a document the one to be taken if it is newer than the one that the bus holds, and
    /// announces it: in one step, so that of two publishers the newer document stays.
    async fn publish_fleet(&self, published: &Published) -> Result<Outcome, BusError>;

    /// The document that the bus holds now.
    async fn fleet(&self) -> Result<Option<Published>, BusError>;

    /// Its revision, without the document: cheap enough to be asked every second. `None` tells a
    /// publisher that the bus has lost everything and wants to be filled again.
    async fn revision(&self) -> Result<Option<Revision>, BusError>;

    /// Follows the document that the bus holds. What is seen never becomes older, nor nothing again.
    /// A lost announcement is made up for within about a second.
    fn watch(&self) -> watch::Receiver<Option<Arc<Published>>>;

    /// Whether the bus answers, as last seen.
    fn connected(&self) -> watch::Receiver<bool>;

    /// Says what a data plane sees; takes the place of its report before.
    async fn report(&self, report: &Report) -> Result<(), BusError>;

    /// The last report of each data plane, with its age, oldest names first. One that is silent for
    /// `REPORTS_KEPT` is left out.
    async fn reports(&self) -> Result<Vec<Report>, BusError>;

    /// Tells the other data planes what this one has in flight. Nothing keeps it: who does not listen
    /// misses it.
    async fn share_load(&self, load: &Load) -> Result<(), BusError>;

    /// Hears what data planes have in flight, this one included.
    fn loads(&self) -> broadcast::Receiver<Arc<Load>>;

    /// Hands a batch over. `Ok` means that the bus has it, not that it is stored: the sender keeps it until
    /// `stored_usage` names it, and sends it again where that takes long.
    async fn send_usage(&self, batch: &UsageBatch) -> Result<(), BusError>;

    /// Takes at most so many batches that nobody else has taken, and those that somebody took some time
    /// ago and did not acknowledge. One batch may come more than once: its id tells.
    async fn take_usage(&self, most: usize) -> Result<Vec<Taken>, BusError>;

    /// The batches are stored; nobody gets them again.
    async fn ack_usage(&self, taken: &[Taken]) -> Result<(), BusError>;

    /// Of these batches' ids those that were acknowledged in the last hours.
    async fn stored_usage(&self, ids: &[String]) -> Result<Vec<String>, BusError>;
}
