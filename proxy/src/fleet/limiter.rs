//! How much a caller asked of late: a token bucket and a count of open requests, for the caller as
//! a whole or for each of its users. Time comes in as a value.
//!
//! The bucket is the generic cell rate algorithm (ITU-T I.371): one instant, the time at which the
//! bucket would be full again, says all. It needs no refilling, and an idle share no memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::fleet_doc::{Limits, Rate};
use parking_lot::Mutex;

/// Users that one caller may be counted apart for; beyond, those without a place share the
/// caller's own. Memory for names that a client makes up stays bounded.
const MOST_USERS: usize = 10_000;

/// Why a request is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMuch {
    /// The rate is used up; one more is earned in this time.
    Rate(Duration),
    /// As many as may be are open.
    Concurrent,
}

/// What one caller used up. Outlives documents.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// Guards every share; held for one look-up.
    shares: Mutex<Shares>,
}

#[derive(Debug, Default)]
struct Shares {
    whole: Share,
    users: HashMap<Box<str>, Share>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    /// When the bucket is full again; in the past: it is.
    full_at: Option<Instant>,
    open: u32,
}

/// One open request; dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Open {
    limiter: Arc<Limiter>,
    user: Option<Box<str>>,
}

impl Limiter {
    /// Counts a request of `user` (or of the caller itself), unless it is too much. `None` where
    /// nothing is limited.
    pub(crate) fn enter(
        self: &Arc<Self>,
        limits: &Limits,
        user: Option<&str>,
        now: Instant,
    ) -> Result<Option<Open>, TooMuch> {
        if limits.rate.is_none() && limits.max_concurrent.is_none() {
            return Ok(None);
        }
        let mut shares = self.shares.lock();
        let user = user.filter(|user| shares.has_place(user, now));
        let share = match user {
            Some(user) => shares.users.entry(user.into()).or_default(),
            None => &mut shares.whole,
        };
        share.take(limits, now)?;
        if limits.max_concurrent.is_none() {
            return Ok(None);
        }
        share.open += 1;
        Ok(Some(Open {
            limiter: Arc::clone(self),
            user: user.map(Into::into),
        }))
    }
}

impl Shares {
    /// Whether a user has a share of its own, or there is place for one: those of idle users are
    /// given up for it.
    fn has_place(&mut self, user: &str, now: Instant) -> bool {
        if self.users.len() >= MOST_USERS && !self.users.contains_key(user) {
            self.users.retain(|_, share| !share.is_idle(now));
        }
        self.users.len() < MOST_USERS || self.users.contains_key(user)
    }
}

impl Share {
    fn is_idle(&self, now: Instant) -> bool {
        self.open == 0 && self.full_at.is_none_or(|at| at <= now)
    }

    fn take(&mut self, limits: &Limits, now: Instant) -> Result<(), TooMuch> {
        if limits.max_concurrent.is_some_and(|most| self.open >= most) {
            return Err(TooMuch::Concurrent);
        }
        let Some(Rate { every, burst }) = limits.rate else {
            return Ok(());
        };
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let earliest = full_at - now; // how far it is from full
        let most = every * (burst - 1);
        match earliest.checked_sub(most) {
            None | Some(Duration::ZERO) => {}
            Some(wait) => return Err(TooMuch::Rate(wait)),
        }
        self.full_at = Some(full_at + every);
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut shares = self.limiter.shares.lock();
        let share = match &self.user {
            Some(user) => shares.users.get_mut(user),
            None => Some(&mut shares.whole),
        };
        // a share with an open request is never given up
        if let Some(share) = share {
            share.open = share.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(every: u64, burst: u32) -> Limits {
        let rate = Some(Rate {
            every: Duration::from_secs(every),
            burst,
        });
        Limits {
            rate,
            max_concurrent: None,
        }
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let limiter = Arc::new(Limiter::default());
        let (limits, start) = (rate(10, 3), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..3 {
            assert!(limiter.enter(&limits, None, start).is_ok());
        }
        let wait = limiter.enter(&limits, None, at(4)).unwrap_err();
        assert_eq!(wait, TooMuch::Rate(Duration::from_secs(6)));
        assert!(limiter.enter(&limits, None, at(10)).is_ok());
        assert!(limiter.enter(&limits, None, at(11)).is_err());
        for _ in 0..3 {
            assert!(limiter.enter(&limits, None, at(1000)).is_ok(), "full again");
        }
        assert!(limiter.enter(&limits, None, at(1000)).is_err(), "no more");
    }

    #[test]
    fn users_are_counted_apart() {
        let limiter = Arc::new(Limiter::default());
        let (limits, now) = (rate(10, 1), Instant::now());
        assert!(limiter.enter(&limits, Some("a"), now).is_ok());
        assert!(limiter.enter(&limits, Some("b"), now).is_ok());
        assert!(limiter.enter(&limits, Some("a"), now).is_err());
        assert!(limiter.enter(&limits, None, now).is_ok(), "the key itself");
    }

    #[test]
    fn places_come_back_when_requests_end() {
        let limiter = Arc::new(Limiter::default());
        let limits = Limits {
            rate: None,
            max_concurrent: Some(2),
        };
        let now = Instant::now();
        let first = limiter.enter(&limits, Some("a"), now).unwrap();
        let _second = limiter.enter(&limits, Some("a"), now).unwrap();
        let third = limiter.enter(&limits, Some("a"), now).unwrap_err();
        assert_eq!(third, TooMuch::Concurrent);
        drop(first);
        assert!(limiter.enter(&limits, Some("a"), now).is_ok());
    }

    #[test]
    fn names_that_are_made_up_cost_bounded_memory_and_win_nothing() {
        let limiter = Arc::new(Limiter::default());
        let (limits, now) = (rate(10, 1), Instant::now());
        for number in 0..MOST_USERS {
            assert!(
                limiter
                    .enter(&limits, Some(&number.to_string()), now)
                    .is_ok()
            );
        }
        assert!(limiter.enter(&limits, Some("one more"), now).is_ok());
        assert!(
            limiter.enter(&limits, Some("and more"), now).is_err(),
            "they share the caller's own bucket"
        );
        assert_eq!(limiter.shares.lock().users.len(), MOST_USERS);
        let later = now + Duration::from_secs(11);
        assert!(limiter.enter(&limits, Some("later"), later).is_ok());
        assert_eq!(limiter.shares.lock().users.len(), 1, "the idle ones went");
    }
}
