//! Logins that guess: who has to wait before the next attempt. In memory and for this process; the
//! clock is passed in. `api`'s login asks before it looks at the password.
//!
//! Three counts, and the longest wait holds:
//!
//! - **account and address**: some attempts are free, then each waits twice as long, up to a bound.
//!   This is what stops a guesser, and it is in nobody else's way.
//! - **account**: a rate for all addresses together, against many machines that guess at one account.
//!   An address from which the account's owner has logged in of late does not see it, so a guesser
//!   cannot lock the owner out.
//! - **address**: a rate for all accounts together, against one machine that tries one password on
//!   many accounts.
//!
//! An attempt counts from its start, or a thousand at once would all be the first; a success takes
//! its own count back and forgets the failures of its account from its address. Whoever has to wait
//! is not counted, so knocking does not make the wait longer.

mod bounded;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::bounded::Bounded;
use super::digest::Digest;

/// So many at once, then one in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At once.
    pub burst: u32,
    /// One is earned in this time.
    pub every: Duration,
}

/// How much guessing is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleRules {
    /// Attempts on an account from one address without a wait.
    pub free: u32,
    /// The wait after these; each failure doubles it.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// Attempts on one account from addresses that its owner has not used of late.
    pub account: Pace,
    /// Attempts from one address.
    pub address: Pace,
    /// How long an address stays known as an owner's.
    pub known_for: Duration,
    /// Entries of each count; each has some 100 bytes.
    pub entries: usize,
}

impl Default for ThrottleRules {
    fn default() -> Self {
        Self {
            free: 10,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(15 * 60),
            account: Pace {
                burst: 100,
                every: Duration::from_secs(10),
            },
            address: Pace {
                burst: 50,
                every: Duration::from_secs(2),
            },
            known_for: Duration::from_secs(30 * 24 * 60 * 60),
            entries: 10_000,
        }
    }
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Yes; it is counted.
    Allowed,
    /// Not before this time: 429 with `Retry-After`.
    Wait(Duration),
}

/// Counts logins.
pub struct Throttle {
    rules: ThrottleRules,
    /// Guards all counts; held for a few look-ups.
    counts: Mutex<Counts>,
}

/// An account by the digest of its name: names are as long as strangers like, and nobody's business.
type Account = [u8; 32];
/// An IPv4 address, or the network that one IPv6 customer has; `None`: those that cannot be told.
type Network = Option<IpAddr>;
type Pair = (Account, Network);

struct Counts {
    pairs: Bounded<Pair, Failures>,
    accounts: Bounded<Account, FullAt>,
    addresses: Bounded<Network, FullAt>,
    known: Bounded<Pair, ()>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// When a bucket is full again (the generic cell rate algorithm, ITU-T I.371).
type FullAt = Instant;

impl Throttle {
    /// Nothing is counted yet.
    pub fn new(rules: ThrottleRules) -> Self {
        let most = rules.entries;
        Self {
            rules,
            counts: Mutex::new(Counts {
                pairs: Bounded::new(most),
                accounts: Bounded::new(most),
                addresses: Bounded::new(most),
                known: Bounded::new(most),
            }),
        }
    }

    /// Asks for an attempt on an account, whether there is such an account or not. `account` is the
    /// name as the store compares names, or else each spelling would have a count of its own.
    pub fn attempt(&self, account: &str, address: Option<IpAddr>, now: Instant) -> Turn {
        let pair @ (account, network) = pair(account, address);
        let rules = &self.rules;
        let mut counts = self.counts.lock();
        let is_known = counts.known.get(&pair, now).is_some();
        let of_pair = counts.pair_wait(&pair, rules, now);
        let of_address = rules.address.wait(counts.addresses.get(&network, now), now);
        let of_account = rules.account.wait(counts.accounts.get(&account, now), now);
        let mut wait = of_pair.max(of_address);
        if !is_known {
            wait = wait.max(of_account);
        }
        if !wait.is_zero() {
            return Turn::Wait(wait);
        }
        counts.count_failure(pair, rules, now);
        rules.address.take(&mut counts.addresses, network, now);
        if !is_known {
            rules.account.take(&mut counts.accounts, account, now);
        }
        Turn::Allowed
    }

    /// An attempt had the right password.
    pub fn succeeded(&self, account: &str, address: Option<IpAddr>, now: Instant) {
        let pair @ (account, network) = pair(account, address);
        let mut counts = self.counts.lock();
        let was_known = counts.known.get(&pair, now).is_some();
        counts.pairs.remove(&pair);
        self.give_back(&mut counts, (account, network), was_known, now);
        let until = now + self.rules.known_for;
        counts.known.put(pair, (), until, now);
    }

    /// An attempt came to no answer, since the machine was busy or the database away: it is as if it
    /// had not been.
    pub fn not_judged(&self, account: &str, address: Option<IpAddr>, now: Instant) {
        let pair = pair(account, address);
        let mut counts = self.counts.lock();
        let was_known = counts.known.get(&pair, now).is_some();
        if let Some(failures) = counts.pairs.get(&pair, now).copied() {
            let count = failures.count.saturating_sub(1);
            let less = Failures { count, ..failures };
            counts.pairs.put(pair, less, less.until(&self.rules), now);
        }
        self.give_back(&mut counts, pair, was_known, now);
    }

    fn give_back(&self, counts: &mut Counts, pair: Pair, was_known: bool, now: Instant) {
        let (account, network) = pair;
        self.rules
            .address
            .give_back(&mut counts.addresses, network, now);
        if !was_known {
            self.rules
                .account
                .give_back(&mut counts.accounts, account, now);
        }
    }
}

impl fmt::Debug for Throttle {
    /// Without the addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Counts {
    fn pair_wait(&self, pair: &Pair, rules: &ThrottleRules, now: Instant) -> Duration {
        let Some(failures) = self.pairs.get(pair, now) else {
            return Duration::ZERO;
        };
        let ends = failures.last + rules.wait_after(failures.count);
        ends.saturating_duration_since(now)
    }

    fn count_failure(&mut self, pair: Pair, rules: &ThrottleRules, now: Instant) {
        let before = self.pairs.get(&pair, now).map_or(0, |it| it.count);
        let failures = Failures {
            count: before.saturating_add(1),
            last: now,
        };
        self.pairs.put(pair, failures, failures.until(rules), now);
    }
}

impl ThrottleRules {
    /// The wait after so many failures.
    fn wait_after(&self, failures: u32) -> Duration {
        let Some(over) = failures.checked_sub(self.free) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(over).unwrap_or(u32::MAX);
        self.first_wait
            .saturating_mul(factor)
            .min(self.longest_wait)
    }
}

impl Failures {
    /// How long they are remembered: the more, the longer, so that a full table forgets guessers last.
    fn until(self, rules: &ThrottleRules) -> Instant {
        const EACH: Duration = Duration::from_secs(10 * 60);
        const MOST: u32 = 12;
        let lasts = EACH * self.count.min(MOST);
        self.last + lasts.max(rules.wait_after(self.count))
    }
}

impl Pace {
    fn wait(self, full_at: Option<&FullAt>, now: Instant) -> Duration {
        let missing = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        missing.saturating_sub(self.every * self.burst.saturating_sub(1))
    }

    fn take<K: Eq + std::hash::Hash + Copy>(
        self,
        buckets: &mut Bounded<K, FullAt>,
        key: K,
        now: Instant,
    ) {
        let full_at = buckets.get(&key, now).map_or(now, |at| *at) + self.every;
        buckets.put(key, full_at, full_at, now);
    }

    fn give_back<K: Eq + std::hash::Hash + Copy>(
        self,
        buckets: &mut Bounded<K, FullAt>,
        key: K,
        now: Instant,
    ) {
        let full_at = buckets
            .get(&key, now)
            .and_then(|at| at.checked_sub(self.every));
        match full_at {
            Some(full_at) if full_at > now => buckets.put(key, full_at, full_at, now),
            _ => buckets.remove(&key),
        }
    }
}

fn pair(account: &str, address: Option<IpAddr>) -> Pair {
    (*Digest::of(account).bytes(), address.map(network))
}

/// One customer of IPv6 has at least a /64, so its addresses are one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests;
