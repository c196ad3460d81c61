//! Circuit breakers: a node, or a model on a node, that fails requests in a row is left alone for
//! a while, then tried with one request at a time. The wait doubles with each failed trial.
//!
//! Time comes in as a value, so that tests need no clock.

use std::time::{Duration, Instant};

use aivonx_shared::config::BreakerConfig;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// One breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    failures: u32,
    base: Duration,
    max: Duration,
    /// Whether anything but "closed, no failure" stands in `inner`: lets the usual case skip the lock.
    touched: AtomicBool,
    /// Guards the state below; held for a few instructions.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Failures in a row while closed.
    row: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    wait: Duration,
    trial: bool,
}

/// What a breaker says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Closed.
    Pass,
    /// The one trial of a half-open breaker: its result must be told, or given back.
    Trial,
    /// Open, or another trial runs.
    Blocked,
}

impl Breaker {
    /// A closed breaker.
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        Self {
            failures: config.failures,
            base: config.base,
            max: config.max,
            touched: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    /// Whether a request might pass now; claims nothing.
    pub(crate) fn would_pass(&self, now: Instant) -> bool {
        if !self.touched.load(Ordering::Acquire) {
            return true;
        }
        self.inner
            .lock()
            .open
            .is_none_or(|open| !open.trial && now >= open.until)
    }

    /// Asks to pass; a half-open breaker hands out its trial once.
    pub(crate) fn enter(&self, now: Instant) -> Verdict {
        if !self.touched.load(Ordering::Acquire) {
            return Verdict::Pass;
        }
        match &mut self.inner.lock().open {
            None => Verdict::Pass,
            Some(open) if !open.trial && now >= open.until => {
                open.trial = true;
                Verdict::Trial
            }
            Some(_) => Verdict::Blocked,
        }
    }

    /// A request ended well: closes the breaker.
    pub(crate) fn success(&self) {
        if self.touched.load(Ordering::Acquire) {
            let mut inner = self.inner.lock();
            *inner = Inner::default();
            self.touched.store(false, Ordering::Release);
        }
    }

    /// A request failed by the node's or runner's own fault. Gives true where this opened it.
    pub(crate) fn failure(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        self.touched.store(true, Ordering::Release);
        match &mut inner.open {
            Some(open) if open.trial => {
                let wait = (open.wait * 2).min(self.max);
                *open = Open {
                    until: now + wait,
                    wait,
                    trial: false,
                };
                true
            }
            // a request from before it opened: says nothing new
            Some(_) => false,
            None => {
                inner.row += 1;
                if inner.row < self.failures {
                    return false;
                }
                inner.open = Some(Open {
                    until: now + self.base,
                    wait: self.base,
                    trial: false,
                });
                true
            }
        }
    }

    /// Opens it at once, as for a runner found stuck.
    pub(crate) fn trip(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        self.touched.store(true, Ordering::Release);
        if inner.open.is_some_and(|open| !open.trial) {
            return false;
        }
        let wait = inner
            .open
            .map_or(self.base, |open| (open.wait * 2).min(self.max));
        inner.open = Some(Open {
            until: now + wait,
            wait,
            trial: false,
        });
        true
    }

    /// A trial ended without a verdict (its client left): the next request may try.
    pub(crate) fn give_back(&self) {
        if let Some(open) = &mut self.inner.lock().open {
            open.trial = false;
        }
    }

    /// How long until a request may pass; zero where one may now.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        if !self.touched.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        self.inner.lock().open.map_or(Duration::ZERO, |open| {
            open.until.saturating_duration_since(now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(&BreakerConfig {
            failures: 2,
            base: Duration::from_secs(1),
            max: Duration::from_secs(3),
            stuck_factor: 8.0,
            stuck_after: Duration::from_secs(60),
        })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (breaker, now) = (breaker(), Instant::now());
        assert!(!breaker.failure(now));
        breaker.success();
        assert!(!breaker.failure(now));
        assert_eq!(breaker.enter(now), Verdict::Pass);
        assert!(breaker.failure(now));
        assert_eq!(breaker.enter(now), Verdict::Blocked);
        assert_eq!(breaker.remaining(now), Duration::from_secs(1));
    }

    #[test]
    fn one_trial_at_a_time_and_the_wait_doubles_up_to_its_limit() {
        let (breaker, mut now) = (breaker(), Instant::now());
        breaker.failure(now);
        breaker.failure(now);
        for wait in [1, 2, 3, 3] {
            assert!(!breaker.would_pass(now));
            now += Duration::from_secs(wait);
            assert!(breaker.would_pass(now));
            assert_eq!(breaker.enter(now), Verdict::Trial);
            assert_eq!(breaker.enter(now), Verdict::Blocked, "a second trial");
            breaker.failure(now);
        }
        now += Duration::from_secs(3);
        assert_eq!(breaker.enter(now), Verdict::Trial);
        breaker.give_back();
        assert_eq!(
            breaker.enter(now),
            Verdict::Trial,
            "a trial that was given back is free"
        );
        breaker.success();
        assert_eq!(breaker.enter(now), Verdict::Pass);
    }
}
