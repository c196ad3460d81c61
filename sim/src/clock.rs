//! The node's own time: as fast as its configuration says, read by everything that waits.
//!
//! All durations inside a node are *node time*. With a scale of 10, ten node seconds pass in
//! one real second.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use tokio::time::Instant;

/// Below this real time a wait is not worth a timer, whose grain is one millisecond.
const TIMER_GRAIN: Duration = Duration::from_micros(200);

/// A clock that runs `scale` times as fast as the real one.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall: DateTime<Utc>,
    scale: f64,
}

impl Clock {
    pub(crate) fn new(scale: f64) -> Self {
        let scale = if scale.is_finite() && scale > 0.0 {
            scale
        } else {
            1.0
        };
        Self {
            start: Instant::now(),
            wall: Utc::now(),
            scale,
        }
    }

    /// Node time since the node was made.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed().mul_f64(self.scale)
    }

    /// The date and time as the node sees it.
    pub(crate) fn wall(&self) -> DateTime<Utc> {
        self.wall_at(self.now())
    }

    /// The date and time at an instant of node time.
    pub(crate) fn wall_at(&self, at: Duration) -> DateTime<Utc> {
        self.wall + at
    }

    /// Waits until `at` in node time; returns at once when that has passed.
    pub(crate) async fn sleep_until(&self, at: Duration) {
        let wait = at.saturating_sub(self.now()).div_f64(self.scale);
        if wait < TIMER_GRAIN {
            tokio::task::coop::consume_budget().await;
        } else {
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits for `span` of node time.
    pub(crate) async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now() + span).await;
    }
}

/// Appends a time as Go's `time.RFC3339Nano` writes it in UTC: no trailing zeros. By hand, because
/// every line of every stream carries one.
pub(crate) fn push_rfc3339(out: &mut Vec<u8>, at: DateTime<Utc>) {
    let time = at.time();
    let parts = [
        (at.year().unsigned_abs(), 4, b'-'),
        (at.month(), 2, b'-'),
        (at.day(), 2, b'T'),
        (time.hour(), 2, b':'),
        (time.minute(), 2, b':'),
        (time.second(), 2, b'.'),
        (at.timestamp_subsec_nanos(), 9, b'0'),
    ];
    for (number, width, after) in parts {
        let from = out.len();
        out.resize(from + width, b'0');
        let mut rest = number;
        for digit in out[from..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.push(after);
    }
    while out.last() == Some(&b'0') {
        out.pop();
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
    out.push(b'Z');
}

/// [`push_rfc3339`] as a string.
pub(crate) fn rfc3339(at: DateTime<Utc>) -> String {
    let mut out = Vec::with_capacity(30);
    push_rfc3339(&mut out, at);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_of_a_fraction_are_left_out() {
        let at = DateTime::from_timestamp(1_795_415_000, 373_880_000).expect("a valid time");
        assert_eq!(rfc3339(at), "2026-11-23T06:23:20.37388Z");
        let whole = DateTime::from_timestamp(1_795_415_000, 0).expect("a valid time");
        assert_eq!(rfc3339(whole), "2026-11-23T06:23:20Z");
    }
}
