//! One connection of the load in HTTP/1.1.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::request::Request;
use crate::tally::Tally;
use crate::wire::{Wire, spare};

/// How long a connection that failed is left alone.
pub(crate) const AFTER_ERROR: Duration = Duration::from_millis(10);

/// One connection.
pub(crate) struct Client {
    pub(crate) request: Arc<Request>,
    pub(crate) tally: Arc<Tally>,
    /// A new connection for each request.
    pub(crate) fresh: bool,
}

impl Client {
    /// Asks again and again, on one connection while it lasts.
    pub(crate) async fn run(self) {
        let mut wire = None;
        loop {
            let began = Instant::now();
            let answer = exchange(&mut wire, &self.request).await;
            self.tally
                .note(&answer, self.request.chunks, began.elapsed());
            if answer.is_err() {
                wire = None;
                tokio::time::sleep(AFTER_ERROR).await;
            }
            if self.fresh
                && let Some(wire) = wire.take()
            {
                // the answer is whole: how the other side takes the end is not what is measured
                let _ = wire.close().await;
            }
        }
    }
}

/// One whole exchange on a connection of its own.
pub(crate) async fn whole(request: &Request) -> io::Result<Answer> {
    exchange(&mut None, request).await
}

/// Sends a request and reads the first piece of its answer's body.
pub(crate) async fn begin(request: &Request) -> io::Result<Wire> {
    let mut wire = connect(request).await?;
    wire.send(&request.bytes).await?;
    let (mut answer, mut buffer) = (Answer::default(), Vec::new());
    while answer.bytes == 0 {
        wire.read(&mut buffer).await?;
        answer.take(&mut buffer)?;
        spare(&mut buffer);
    }
    if answer.status == 200 && !answer.is_whole() {
        Ok(wire)
    } else {
        Err(io::Error::other("not an open stream"))
    }
}

async fn connect(request: &Request) -> io::Result<Wire> {
    Wire::connect(request.target, request.tls.as_ref()).await
}

async fn exchange(slot: &mut Option<Wire>, request: &Request) -> io::Result<Answer> {
    let wire = match slot {
        Some(wire) => wire,
        None => slot.insert(connect(request).await?),
    };
    wire.send(&request.bytes).await?;
    let (mut answer, mut buffer) = (Answer::default(), Vec::new());
    while !answer.is_whole() {
        wire.read(&mut buffer).await?;
        answer.take(&mut buffer)?;
        spare(&mut buffer);
    }
    Ok(answer)
}
