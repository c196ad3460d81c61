//! Throttling: guessers wait, and nobody else does.

use super::*;

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// A throttle, and a clock that is moved by hand.
struct Rig {
    throttle: Throttle,
    now: Instant,
}

fn rig() -> Rig {
    Rig {
        throttle: Throttle::new(ThrottleRules::default()),
        now: Instant::now(),
    }
}

impl Rig {
    fn attempt(&self, account: &str, address: &str) -> Turn {
        self.throttle.attempt(account, ip(address), self.now)
    }

    fn succeeds(&self, account: &str, address: &str) {
        assert_eq!(self.attempt(account, address), Turn::Allowed);
        self.throttle.succeeded(account, ip(address), self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Guesses as fast as it is let, for so long, and is left waiting. How many guesses were made.
    fn guess(&mut self, account: &str, address: &str, seconds: u64) -> u32 {
        let end = self.now + Duration::from_secs(seconds);
        let mut guesses = 0;
        loop {
            match self.attempt(account, address) {
                Turn::Allowed => guesses += 1,
                Turn::Wait(wait) if self.now + wait >= end => return guesses,
                Turn::Wait(wait) => self.now += wait,
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: u64 = 24 * 60 * 60;

#[test]
fn after_some_free_attempts_each_waits_twice_as_long() {
    let mut rig = rig();
    for _ in 0..10 {
        assert_eq!(rig.attempt("root", "192.0.2.1"), Turn::Allowed);
    }
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        let turn = rig.attempt("root", "192.0.2.1");
        assert_eq!(turn, Turn::Wait(SECOND * wait));
        rig.pass(u64::from(wait));
        assert_eq!(rig.attempt("root", "192.0.2.1"), Turn::Allowed, "{wait}");
    }
}

#[test]
fn a_guesser_gets_few_guesses_a_day() {
    let guesses = rig().guess("root", "192.0.2.1", DAY);
    assert!((100..130).contains(&guesses), "{guesses}");
}

#[test]
fn knocking_does_not_make_the_wait_longer() {
    let mut rig = rig();
    rig.guess("root", "192.0.2.1", 3);
    let Turn::Wait(before) = rig.attempt("root", "192.0.2.1") else {
        panic!("it should wait");
    };
    for _ in 0..1000 {
        assert_eq!(rig.attempt("root", "192.0.2.1"), Turn::Wait(before));
    }
    rig.now += before;
    assert_eq!(rig.attempt("root", "192.0.2.1"), Turn::Allowed);
}

#[test]
fn a_thousand_at_once_are_not_all_the_first() {
    let rig = rig();
    let turns = (0..1000).map(|_| rig.attempt("root", "192.0.2.1"));
    let allowed = turns.filter(|turn| *turn == Turn::Allowed).count();
    assert_eq!(allowed, 10);
}

#[test]
fn a_success_forgets_the_failures_before() {
    let mut rig = rig();
    for _ in 0..3 {
        for _ in 0..9 {
            assert_eq!(rig.attempt("ada", "192.0.2.1"), Turn::Allowed);
        }
        rig.succeeds("ada", "192.0.2.1");
        rig.pass(60);
    }
}

#[test]
fn logins_that_succeed_never_wait() {
    let rig = rig();
    for _ in 0..1000 {
        rig.succeeds("ada", "192.0.2.1");
    }
}

#[test]
fn failures_are_forgotten_with_time() {
    let mut rig = rig();
    for _ in 0..10 {
        rig.attempt("ada", "192.0.2.1");
    }
    rig.pass(2 * 60 * 60);
    for _ in 0..10 {
        assert_eq!(rig.attempt("ada", "192.0.2.1"), Turn::Allowed);
    }
}

#[test]
fn a_wait_holds_however_long_it_is_and_few_failures_led_to_it() {
    let hour = SECOND * 60 * 60;
    let rules = ThrottleRules {
        free: 1,
        first_wait: hour,
        longest_wait: hour,
        ..ThrottleRules::default()
    };
    let mut rig = Rig {
        throttle: Throttle::new(rules),
        now: Instant::now(),
    };
    assert_eq!(rig.attempt("root", "192.0.2.1"), Turn::Allowed);
    rig.pass(60 * 60 - 1);
    assert_eq!(rig.attempt("root", "192.0.2.1"), Turn::Wait(SECOND));
}

#[test]
fn one_guesser_does_not_lock_the_owner_out() {
    let mut rig = rig();
    rig.guess("root", "192.0.2.1", DAY);
    assert!(matches!(rig.attempt("root", "192.0.2.1"), Turn::Wait(_)));
    rig.succeeds("root", "198.51.100.7");
}

#[test]
fn many_guessers_do_not_lock_out_an_owner_who_was_here_before() {
    let mut rig = rig();
    rig.succeeds("root", "198.51.100.7");
    rig.pass(DAY);
    for host in 0..250 {
        rig.attempt("root", &format!("192.0.2.{host}"));
    }
    let stranger = rig.attempt("root", "203.0.113.1");
    assert_eq!(
        stranger,
        Turn::Wait(SECOND * 10),
        "the account is at its pace"
    );
    rig.succeeds("root", "198.51.100.7");
    rig.pass(10);
    assert_eq!(rig.attempt("root", "203.0.113.1"), Turn::Allowed);
}

#[test]
fn an_owners_success_gives_guessers_no_more_guesses() {
    let rig = rig();
    for host in 0..100 {
        rig.attempt("root", &format!("192.0.2.{host}"));
    }
    let mut rig = rig;
    rig.pass(10);
    rig.succeeds("root", "198.51.100.7");
    for _ in 0..50 {
        rig.succeeds("root", "198.51.100.7");
    }
    assert_eq!(rig.attempt("root", "203.0.113.1"), Turn::Allowed);
    let second = rig.attempt("root", "203.0.113.2");
    assert_eq!(
        second,
        Turn::Wait(SECOND * 10),
        "only its own place came back"
    );
}

#[test]
fn one_address_that_tries_many_accounts_waits() {
    let rig = rig();
    for user in 0..50 {
        let turn = rig.attempt(&format!("user{user}"), "192.0.2.1");
        assert_eq!(turn, Turn::Allowed, "{user}");
    }
    let turn = rig.attempt("user50", "192.0.2.1");
    assert_eq!(turn, Turn::Wait(SECOND * 2));
    assert_eq!(rig.attempt("user50", "192.0.2.2"), Turn::Allowed);
}

#[test]
fn a_success_of_ones_own_gives_no_guesses_at_others() {
    let rig = rig();
    for user in 0..50 {
        rig.attempt(&format!("user{user}"), "192.0.2.1");
    }
    let turn = rig.attempt("mallory", "192.0.2.1");
    assert_eq!(turn, Turn::Wait(SECOND * 2));
}

#[test]
fn the_addresses_of_one_customer_are_one() {
    let rig = rig();
    for host in 0..10 {
        rig.attempt("root", &format!("2001:db8:1:2::{host}"));
    }
    let wait = Turn::Wait(SECOND);
    assert_eq!(rig.attempt("root", "2001:db8:1:2:ffff::1"), wait);
    assert_eq!(rig.attempt("root", "2001:db8:1:3::1"), Turn::Allowed);
    for _ in 0..10 {
        rig.attempt("root", "192.0.2.1");
    }
    assert_eq!(rig.attempt("root", "::ffff:192.0.2.1"), wait);
}

#[test]
fn clients_that_cannot_be_told_apart_share_a_count() {
    let rig = rig();
    for _ in 0..10 {
        rig.throttle.attempt("root", None, rig.now);
    }
    let turn = rig.throttle.attempt("root", None, rig.now);
    assert_eq!(turn, Turn::Wait(SECOND));
}

#[test]
fn an_attempt_that_was_not_judged_is_not_counted() {
    let rig = rig();
    for _ in 0..1000 {
        assert_eq!(rig.attempt("ada", "192.0.2.1"), Turn::Allowed);
        rig.throttle.not_judged("ada", ip("192.0.2.1"), rig.now);
    }
}

#[test]
fn a_flood_of_names_and_addresses_takes_no_more_memory_and_frees_no_guesser() {
    let rules = ThrottleRules {
        entries: 100,
        ..ThrottleRules::default()
    };
    let rig = Rig {
        throttle: Throttle::new(rules),
        now: Instant::now(),
    };
    for _ in 0..10 {
        rig.attempt("root", "192.0.2.1");
    }
    for number in 0..2000_u32 {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let name = format!("user{number}");
        rig.throttle.attempt(&name, Some(address), rig.now);
    }
    assert_eq!(rig.attempt("root", "192.0.2.1"), Turn::Wait(SECOND));
}

proptest::proptest! {
    #[test]
    fn whoever_waits_as_told_is_let_in(
        free in 0_u32..5, burst in 1_u32..5, every in 1_u64..100, attempts in 1_usize..60
    ) {
        let pace = Pace { burst, every: Duration::from_millis(every) };
        let rules = ThrottleRules {
            free, account: pace, address: pace, entries: 3, ..ThrottleRules::default()
        };
        let mut rig = Rig { throttle: Throttle::new(rules), now: Instant::now() };
        for number in 0..attempts {
            let address = format!("192.0.2.{}", number % 7);
            if let Turn::Wait(wait) = rig.attempt("root", &address) {
                rig.now += wait;
                proptest::prop_assert_eq!(rig.attempt("root", &address), Turn::Allowed);
            }
        }
    }
}
