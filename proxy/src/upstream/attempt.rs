//! One attempt at one node: the deadline of its present phase, and why it was ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::fleet::access::Grant;
use crate::fleet::waiting::{Interrupt, Why};

/// An attempt that is with a node.
pub(crate) struct Attempt {
    connection: Arc<Connection>,
    began: Instant,
    first_byte: Duration,
    idle: Duration,
    has_byte: AtomicBool,
    /// When the last byte came, milliseconds after `began`; before the first, when a piece of a
    /// long body went out.
    last_byte: AtomicU64,
    why: AtomicU8,
    /// What the caller's request rests on, where that may be taken away.
    grant: Option<Arc<Grant>>,
}

impl Attempt {
    /// An attempt that begins now; timeouts by phase (design.md D4).
    pub(crate) fn new(connection: Arc<Connection>, first_byte: Duration, idle: Duration) -> Self {
        Self {
            connection,
            began: Instant::now(),
            first_byte,
            idle,
            has_byte: AtomicBool::new(false),
            last_byte: AtomicU64::new(0),
            why: AtomicU8::new(0),
            grant: None,
        }
    }

    /// Ends with its caller's grant.
    pub(crate) fn granted(mut self, grant: Option<Arc<Grant>>) -> Self {
        self.grant = grant;
        self
    }

    /// A byte of the answer came.
    pub(crate) fn saw_byte(&self, now: Instant) {
        let after = now.saturating_duration_since(self.began).as_millis() as u64;
        self.last_byte.store(after, Ordering::Relaxed);
        self.has_byte.store(true, Ordering::Release);
    }

    /// A piece of a long body is on its way to the node: the wait for its answer begins anew.
    pub(crate) fn sent_piece(&self, now: Instant) {
        let after = now.saturating_duration_since(self.began).as_millis() as u64;
        self.last_byte.store(after, Ordering::Relaxed);
    }

    /// Why it was ended from outside, if it was.
    pub(crate) fn why(&self) -> Option<Why> {
        match self.why.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Why::NodeDown),
            2 => Some(Why::FirstByte),
            3 => Some(Why::Idle),
            _ => Some(Why::Revoked),
        }
    }
}

impl Interrupt for Attempt {
    fn waits(&self) -> bool {
        !self.has_byte.load(Ordering::Acquire)
    }

    fn overdue(&self, now: Instant) -> Option<Why> {
        if self.grant.as_ref().is_some_and(|grant| grant.is_revoked()) {
            return Some(Why::Revoked);
        }
        let last = Duration::from_millis(self.last_byte.load(Ordering::Relaxed));
        let silent = now
            .saturating_duration_since(self.began)
            .saturating_sub(last);
        if self.waits() {
            (silent > self.first_byte).then_some(Why::FirstByte)
        } else {
            (silent > self.idle).then_some(Why::Idle)
        }
    }

    fn interrupt(&self, why: Why) {
        let first = self
            .why
            .compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.connection.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_still_on_its_way_is_no_silence() {
        let attempt = Attempt::new(Arc::default(), Duration::from_secs(10), Duration::MAX);
        let at = |after| attempt.began + Duration::from_secs(after);
        attempt.sent_piece(at(3600));
        assert_eq!(attempt.overdue(at(3609)), None);
        assert_eq!(attempt.overdue(at(3611)), Some(Why::FirstByte));
    }

    #[test]
    fn each_phase_has_its_own_patience() {
        let seconds = Duration::from_secs;
        let attempt = Attempt::new(Arc::default(), seconds(10), seconds(3));
        let at = |after| attempt.began + seconds(after);
        assert_eq!(attempt.overdue(at(9)), None);
        assert_eq!(attempt.overdue(at(11)), Some(Why::FirstByte));
        attempt.saw_byte(at(9));
        assert_eq!(attempt.overdue(at(12)), None);
        assert_eq!(attempt.overdue(at(13)), Some(Why::Idle));
        attempt.interrupt(Why::Idle);
        attempt.interrupt(Why::NodeDown);
        assert_eq!(attempt.why(), Some(Why::Idle), "the first reason counts");
    }
}
