//! The live state of one model on one node: its slots, whether it is resident, its breaker and
//! its own history of first bytes. It outlives snapshots; permits hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aivonx_shared::config::BreakerConfig;
use parking_lot::Mutex;

use super::breaker::Breaker;
use super::latency::Latency;
use super::residents::Residents;

/// One model on one node.
#[derive(Debug)]
pub(crate) struct ModelState {
    in_flight: AtomicU32,
    /// Requests that other data planes have with it, as they last said.
    elsewhere: AtomicU32,
    resident: AtomicBool,
    /// Where to note that it became resident, and under which index. Guards the hand-over to a new
    /// snapshot.
    listing: Mutex<Option<(Arc<Residents>, u32)>>,
    pub(crate) breaker: Breaker,
    pub(crate) latency: Latency,
    progress: Mutex<Progress>,
    stuck_factor: f64,
    stuck_after: Duration,
}

/// What shows whether a runner still works.
#[derive(Debug, Default)]
struct Progress {
    /// Requests sent that have no byte yet.
    waiting: u32,
    /// When a byte came last, or the oldest waiting began.
    since: Option<Instant>,
    /// Slowest first byte of late; falls by a tenth with each answer.
    slowest: Duration,
}

impl ModelState {
    pub(super) fn new(config: &BreakerConfig) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
            resident: AtomicBool::new(false),
            listing: Mutex::new(None),
            breaker: Breaker::new(config),
            latency: Latency::default(),
            progress: Mutex::default(),
            stuck_factor: config.stuck_factor,
            stuck_after: config.stuck_after,
        }
    }

    /// Requests that hold a slot now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Slots that are held by all data planes, as far as is known.
    pub(crate) fn anywhere(&self) -> u32 {
        self.in_flight()
            .saturating_add(self.elsewhere.load(Ordering::Relaxed))
    }

    pub(super) fn set_elsewhere(&self, count: u32) {
        self.elsewhere.store(count, Ordering::Relaxed);
    }

    /// Requests that were sent and have no byte yet.
    pub(crate) fn waiting(&self) -> u32 {
        self.progress.lock().waiting
    }

    pub(super) fn take(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the model is loaded, as `/api/ps` last said or an answer just showed.
    pub(crate) fn is_resident(&self) -> bool {
        self.resident.load(Ordering::Relaxed)
    }

    /// Notes what `/api/ps` or an answer showed.
    pub(crate) fn set_resident(&self, resident: bool) {
        if resident == self.is_resident() {
            return; // the usual case takes no lock
        }
        let listing = self.listing.lock();
        if !self.resident.swap(resident, Ordering::Relaxed)
            && resident
            && let Some((residents, index)) = &*listing
        {
            residents.note(*index);
        }
    }

    /// From now on it notes itself in `residents`, as holder number `index`.
    pub(super) fn list_in(&self, residents: &Arc<Residents>, index: u32) {
        let mut listing = self.listing.lock();
        *listing = Some((Arc::clone(residents), index));
        if self.is_resident() {
            residents.note(index);
        }
    }

    pub(super) fn wait_begins(&self, now: Instant) {
        let mut progress = self.progress.lock();
        if progress.waiting == 0 {
            progress.since = Some(now);
        }
        progress.waiting += 1;
    }

    pub(super) fn wait_ends(&self, first_byte_after: Option<Duration>, now: Instant) {
        let mut progress = self.progress.lock();
        progress.waiting = progress.waiting.saturating_sub(1);
        if let Some(took) = first_byte_after {
            progress.since = Some(now);
            progress.slowest = took.max(progress.slowest.mul_f64(0.9));
        }
    }

    /// Whether the runner holds work and has shown no byte for far longer than its own history.
    /// Without a history nothing can be said: a first load may take any time.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        let progress = self.progress.lock();
        if progress.waiting == 0 || progress.slowest.is_zero() {
            return false;
        }
        let patience = self
            .stuck_after
            .max(progress.slowest.mul_f64(self.stuck_factor));
        progress
            .since
            .is_some_and(|since| now.saturating_duration_since(since) > patience)
    }

    /// Notes a byte of a running answer, so that one long answer on the only slot is no sign of a
    /// stuck runner for those who wait behind it.
    pub(crate) fn saw_byte(&self, now: Instant) {
        self.progress.lock().since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_stuck_only_against_its_own_history() {
        let state = ModelState::new(&BreakerConfig {
            failures: 3,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            stuck_factor: 4.0,
            stuck_after: Duration::from_secs(10),
        });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        state.wait_begins(at(0));
        assert!(
            !state.is_stuck(at(10_000)),
            "no history: a cold load may take any time"
        );
        state.wait_ends(Some(Duration::from_secs(5)), at(5));
        assert!(!state.is_stuck(at(10_000)), "nobody waits");
        state.wait_begins(at(100));
        assert!(!state.is_stuck(at(119)));
        assert!(state.is_stuck(at(121)), "four times five seconds are over");
        state.saw_byte(at(120));
        assert!(!state.is_stuck(at(121)), "another answer flows");
    }
}
