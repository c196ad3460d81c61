//! How much a caller may ask: `rate: 60/m`, `burst: 10`, `max_concurrent: 4`.

use std::time::Duration;

use crate::config::Reader;

/// A request rate, as a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one request is earned.
    pub every: Duration,
    /// Requests that may come at once after a pause; at least 1.
    pub burst: u32,
}

/// The limits of one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Requests over time.
    pub rate: Option<Rate>,
    /// Requests at the same time.
    pub max_concurrent: Option<u32>,
}

/// Reads the limits of a key or network.
pub(super) fn read_limits(at: &Reader<'_>) -> Limits {
    let burst = at.get::<u32>("burst");
    if burst == Some(0) {
        at.complain("burst", "must be at least 1");
    }
    let max_concurrent = at.get::<u32>("max_concurrent");
    if max_concurrent == Some(0) {
        at.complain(
            "max_concurrent",
            "must be at least 1; remove the key to forbid everything",
        );
    }
    let rate = at.get::<String>("rate").and_then(|text| {
        let rate = rate(&text, burst.filter(|burst| *burst > 0));
        if rate.is_none() {
            at.complain(
                "rate",
                &format!(
                    "`{text}` is no rate; write a number of requests and s, m, h or d, as 60/m"
                ),
            );
        }
        rate
    });
    if rate.is_none() && burst.is_some() && at.value("rate").is_none() {
        at.complain("burst", "needs a `rate` beside it");
    }
    Limits {
        rate,
        max_concurrent,
    }
}

/// `60/m`; without a burst of its own the whole number may come at once.
fn rate(text: &str, burst: Option<u32>) -> Option<Rate> {
    let (count, unit) = text.trim().split_once('/')?;
    let count: u32 = count.trim().parse().ok()?;
    let seconds = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    (count > 0).then(|| Rate {
        every: Duration::from_secs(seconds) / count,
        burst: burst.unwrap_or(count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_number_and_a_unit() {
        let read = |text| rate(text, None).map(|rate| (rate.every, rate.burst));
        assert_eq!(read("60/m"), Some((Duration::from_secs(1), 60)));
        assert_eq!(read("10 / s"), Some((Duration::from_millis(100), 10)));
        assert_eq!(rate("24/d", Some(2)).map(|rate| rate.burst), Some(2));
        for wrong in ["", "60", "0/m", "-1/s", "1.5/s", "60/min", "/m"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
