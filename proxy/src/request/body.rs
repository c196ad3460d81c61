//! Reads a request body before a node is chosen, knows its model, and keeps it for every attempt.
//!
//! Pingora picks the peer before it forwards the body, keeps at most 64 KiB of it for a second
//! attempt, and forwards a body that was read early only if that buffer holds something. The recipe
//! (pingora.md §1) works within these rules:
//! - a body whose length is known and within the memory for one request is read to its end, and
//!   Pingora's buffer is switched on just before the read at which at most 64 KiB remain, so that
//!   it holds a tail with which every attempt starts;
//! - a chunked body is read until its first value closes, with the buffer on from the start; its
//!   terminator stays unread, so that Pingora itself meets it;
//! - a body without a length over HTTP/2, whose last bytes may carry its end, is read as far, and the
//!   buffer holds its beginning alone;
//! - a longer body is read until its model is known; the rest streams and cannot be sent again.
//!
//! On the first call of an attempt `outgoing` puts out all that was read in place of what comes in.
//! `edited` changes what was read; every attempt then puts out the changed bytes.

mod edited;
mod limits;
mod piece;
mod scan;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::prelude::{Error, ErrorType};
use pingora::time::timeout;
use pingora_proxy::Session;

use super::budget::Charge;
use super::model_scan::Found;
use super::rejection::Rejection;
use super::route::NodeRoute;
use edited::{Edited, Watch};
use scan::Scan;

pub(crate) use limits::BodyLimits;

/// Pingora's own buffer for a second attempt, bytes.
const RETRY_BUFFER: u64 = 64 << 10;
/// Read further at most this much of a body that is refused, so that the answer is not overtaken
/// by a reset of the connection.
const DRAIN: u64 = 1 << 20;
/// And at most this long.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// What was read of a request's body, and what may be done with it.
#[derive(Default)]
pub(crate) struct Body {
    /// All that was read, to be put out in place of what comes in; `None` where Pingora's buffer
    /// holds all of it.
    stash: Option<Bytes>,
    /// Gives the memory back when nothing will be sent again.
    charge: Option<Charge>,
    /// How much of a body that streams on has come, and the most that may.
    passed: Option<(u64, Arc<BodyLimits>)>,
    /// Says whether what streams on may stand beside what was read. Boxed: few bodies are that long,
    /// and every request holds this room until its answer ends.
    watch: Option<Box<Watch>>,
    /// What editing changed.
    edited: Option<Edited>,
    /// What followed a whole body, as space does: short, it is sent again with it.
    trailing: BytesMut,
    coding: Coding,
    reach: Reach,
    /// Whether the stash went out in this attempt.
    injected: bool,
    /// Whether bytes beyond the stash went to a node: they cannot be sent again.
    streamed: bool,
    /// Whether this attempt began with Pingora's buffer.
    replay_first: bool,
}

/// How a body came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Coding {
    #[default]
    Plain,
    Zstd,
}

/// How much of a body is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Reach {
    /// All that matters.
    #[default]
    Whole,
    /// The rest is still with the client and will not be held.
    StreamsOn,
}

/// Why a body could not be taken.
pub(crate) enum BodyError {
    /// Answered by the proxy.
    Rejected(Rejection),
    /// The client is gone or broke the protocol.
    Client(Box<Error>),
}

impl From<Rejection> for BodyError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Reads the body of a request for `route` as far as the recipe above says.
pub(crate) async fn read(
    session: &mut Session,
    route: NodeRoute,
    limits: &Arc<BodyLimits>,
) -> Result<(Body, Found), BodyError> {
    let length = content_length(session);
    if let Err(rejection) = limits.admits(length.unwrap_or(0)) {
        if !expects_continue(session) {
            drain(session).await;
        }
        return Err(rejection.into());
    }
    expect_continue(session).await?;
    let mut reading = Reading {
        length,
        scan: Scan::of(session, route),
        kept: BytesMut::new(),
        charge: None,
        read: 0,
        limits,
    };
    let ended = reading.run(session).await;
    match ended {
        Ok(End::Whole) => reading.whole(session),
        Ok(End::Streams) => Ok(reading.streams()),
        Err(error) => {
            if let BodyError::Rejected(_) = error {
                drain(session).await;
            }
            Err(error)
        }
    }
}

/// How reading stopped.
enum End {
    /// All that matters is here (of a chunked body perhaps not the terminator).
    Whole,
    /// The rest is still with the client.
    Streams,
}

/// What became of a chunk.
enum Kept {
    /// The whole body may be kept.
    Fits,
    /// The body is longer than one may be.
    TooLong,
    /// The memory over all requests is used up.
    NoMemory,
}

struct Reading<'a> {
    length: Option<u64>,
    scan: Scan,
    kept: BytesMut,
    charge: Option<Charge>,
    read: u64,
    limits: &'a Arc<BodyLimits>,
}

impl Reading<'_> {
    async fn run(&mut self, session: &mut Session) -> Result<End, BodyError> {
        if session.downstream_session.is_body_empty() {
            return Ok(End::Whole);
        }
        let began = Instant::now();
        loop {
            let patience = self.limits.patience(self.read, began.elapsed());
            let reading = piece::next(&mut session.downstream_session, self.length, self.read);
            let chunk = match timeout(patience, reading).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(End::Whole),
                Ok(Err(error)) if !matches!(error.etype(), ErrorType::ReadTimedout) => {
                    return Err(BodyError::Client(error));
                }
                _ => return Err(Rejection::BodyTimeout.into()),
            };
            self.scan.feed(&chunk);
            self.read += chunk.len() as u64;
            self.limits.admits(self.read)?;
            match self.keep(&chunk) {
                Kept::Fits => {}
                _ if self.scan.has_model() => return Ok(End::Streams),
                Kept::TooLong if self.read <= self.limits.each => {}
                Kept::TooLong => return Err(Rejection::BodyTooLarge(self.limits.each).into()),
                Kept::NoMemory => return Err(Rejection::BodyMemory.into()),
            }
            if self.length.is_none() && self.scan.settled() {
                return Ok(End::Whole);
            }
        }
    }

    /// Keeps a chunk where Pingora's buffer will not hold the whole body, and says whether the
    /// body fits: by its length, by what has come, and by the memory over all requests.
    fn keep(&mut self, chunk: &Bytes) -> Kept {
        // of a body this small Pingora's buffer holds all
        if self.length.is_some_and(|length| length <= RETRY_BUFFER) {
            return Kept::Fits;
        }
        if self.kept.is_empty() {
            self.kept
                .reserve(self.length.unwrap_or(0).min(self.limits.each) as usize);
        }
        self.kept.extend_from_slice(chunk);
        if self.read <= RETRY_BUFFER {
            return Kept::Fits;
        }
        if !self.charge() {
            return Kept::NoMemory;
        }
        let longest = self.length.unwrap_or(0).max(self.read);
        if longest > self.limits.each {
            Kept::TooLong
        } else {
            Kept::Fits
        }
    }

    /// Charges what is kept to the memory over all requests.
    fn charge(&mut self) -> bool {
        let target = self.kept.len() as u64;
        match &mut self.charge {
            Some(charge) => {
                let more = target.saturating_sub(charge.bytes());
                more == 0 || charge.grow(more)
            }
            None => {
                self.charge = self.limits.budget.take(target);
                self.charge.is_some()
            }
        }
    }

    fn whole(self, session: &mut Session) -> Result<(Body, Found), BodyError> {
        let done = session.downstream_session.is_body_done();
        let buffered = session.downstream_session.get_retry_buffer();
        if done && self.read > 0 && buffered.is_none() {
            // Chunked, over 64 KiB, and read to its terminator without its value closing: Pingora
            // would wait for ever to send it. Go says of it what is said here.
            return Err(Rejection::AsOllama(400, "unexpected EOF".into()).into());
        }
        let all_buffered = buffered.is_some_and(|buffered| buffered.len() as u64 == self.read);
        let body = Body {
            stash: (!all_buffered && self.read > 0).then(|| self.kept.freeze()),
            charge: self.charge,
            coding: self.scan.coding(),
            ..Body::default()
        };
        Ok((body, self.scan.finish()))
    }

    fn streams(self) -> (Body, Found) {
        let found = self.scan.so_far();
        let coding = self.scan.coding();
        let watch = match self.scan {
            Scan::Plain(scan) => Some(Box::new(Watch::new(scan))),
            Scan::Zstd(_) | Scan::None => None,
        };
        let body = Body {
            stash: Some(self.kept.freeze()),
            charge: self.charge,
            watch,
            passed: Some((self.read, Arc::clone(self.limits))),
            coding,
            reach: Reach::StreamsOn,
            ..Body::default()
        };
        (body, found)
    }
}

/// Takes a body that only a node reads, as it comes: nothing of it is kept, so it is not sent twice
/// once it has gone beyond Pingora's buffer.
pub(crate) async fn opaque(session: &mut Session) -> Result<Body, BodyError> {
    expect_continue(session).await?;
    Ok(Body::default())
}

/// Lets a body through that is no business of a node's, if it says no more than `most` bytes.
pub(crate) async fn streamed(session: &mut Session, most: u64) -> Result<(), BodyError> {
    if content_length(session).is_some_and(|length| length > most) {
        return Err(Rejection::BodyLimit(most).into());
    }
    expect_continue(session).await
}

/// Reads a bounded part of a body that is refused, unless its client waits to be asked for it.
pub(crate) async fn pass_over_refused(session: &mut Session) {
    if !expects_continue(session) {
        drain(session).await;
    }
}

impl Body {
    /// All of it, where it was read to its end.
    pub(crate) fn all(&self, session: &Session) -> Option<Bytes> {
        match &self.stash {
            _ if self.streams_on() => None,
            Some(stash) => Some(stash.clone()),
            None => Some(
                session
                    .downstream_session
                    .get_retry_buffer()
                    .unwrap_or_default(),
            ),
        }
    }

    /// An attempt begins; call before Pingora sends.
    pub(crate) fn begin_attempt(&mut self, session: &Session) {
        self.injected = false;
        self.replay_first = session.downstream_session.get_retry_buffer().is_some();
    }

    /// What goes to the node in place of `incoming`; `end` says that nothing more comes.
    pub(crate) fn outgoing(
        &mut self,
        incoming: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), Rejection> {
        let first = !std::mem::replace(&mut self.injected, true);
        // over HTTP/2 a body may end in an empty frame, which over HTTP/1.1 is an end before the end
        incoming.take_if(|bytes| end && bytes.is_empty());
        // with everything in Pingora's buffer, its bytes pass as they are
        let Some(stash) = self.stash.clone() else {
            return Ok(());
        };
        if let Some(edited) = &self.edited
            && edited.decides()
        {
            *incoming = edited.outgoing(first.then_some(stash), incoming.take(), end);
            return Ok(());
        }
        let replayed = first && self.replay_first;
        let fresh = incoming
            .take()
            .filter(|bytes| !replayed && !bytes.is_empty());
        let start = match first {
            true if self.trailing.is_empty() => Some(stash),
            true => Some([&stash[..], &self.trailing].concat().into()),
            false => None,
        };
        if let Some(fresh) = &fresh {
            self.note(fresh)?;
        }
        *incoming = match (start, fresh) {
            (Some(start), Some(fresh)) => Some([start, fresh].concat().into()),
            (start, fresh) => start.or(fresh),
        };
        Ok(())
    }

    /// Looks at bytes that stream past: too many of them, or another model in them, end the request.
    fn note(&mut self, fresh: &Bytes) -> Result<(), Rejection> {
        let is_short = (self.trailing.len() + fresh.len()) as u64 <= RETRY_BUFFER;
        if self.reach == Reach::Whole && !self.streamed && is_short {
            self.trailing.extend_from_slice(fresh);
        } else {
            self.streamed = true;
            self.trailing = BytesMut::new();
        }
        if let Some((passed, limits)) = &mut self.passed {
            *passed += fresh.len() as u64;
            limits.admits(*passed)?;
        }
        match &mut self.watch {
            Some(watch) => watch.pass(fresh),
            None => Ok(()),
        }
    }

    /// Whether the body streams on and another model in it would end the request.
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Whether the whole body can be sent to another node.
    pub(crate) fn can_replay(&self, session: &mut Session) -> bool {
        !self.streamed
            && (!self.injected
                || session.downstream_session.get_retry_buffer().is_some()
                || session.downstream_session.is_body_empty())
    }

    /// Gives up the memory once nothing will be sent again.
    pub(crate) fn release(&mut self) {
        if let Some(stash) = &mut self.stash {
            *stash = Bytes::new();
        }
        self.charge = None;
    }
}

/// Answers `Expect: 100-continue`: the body is read here, before a node could ask for it.
async fn expect_continue(session: &mut Session) -> Result<(), BodyError> {
    if expects_continue(session) {
        session
            .downstream_session
            .write_continue_response()
            .await
            .map_err(BodyError::Client)?;
    }
    Ok(())
}

fn expects_continue(session: &Session) -> bool {
    let expects = session.req_header().headers.get(header::EXPECT);
    expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn content_length(session: &Session) -> Option<u64> {
    let headers = &session.req_header().headers;
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Reads a bounded part of what the client still sends of a refused body. Over HTTP/2 a stream ends
/// without a reset of its connection.
pub(crate) async fn drain(session: &mut Session) {
    if session.is_http2() {
        return;
    }
    let reading = async {
        let mut left = DRAIN;
        while let Ok(Some(chunk)) = session.downstream_session.read_request_body().await {
            left = left.saturating_sub(chunk.len() as u64);
            if left == 0 {
                break;
            }
        }
    };
    // one that sends on slowly may see a reset
    let _ = timeout(DRAIN_TIME, reading).await;
}
