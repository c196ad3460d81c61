//! `keep_alive` as Ollama reads it (its `api.Duration`; ollama-api.md §5.5), and what it becomes
//! within bounds.

use std::time::Duration;

use aivonx_shared::fleet_doc::Bounds;

use super::members::text;

const SECOND: f64 = 1e9;
/// The largest number that Go takes on its way to a duration.
const MOST: u64 = 1 << 63;

/// How long a model shall stay loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// This many nanoseconds.
    Nanos(u64),
    /// Anything below zero.
    Forever,
}

impl KeepAlive {
    /// Reads a JSON value; `None` for `null` and for what a node answers 400 to.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        match value.first()? {
            b'"' => go_duration(&text(value)?),
            b'-' | b'0'..=b'9' => {
                let seconds: f64 = std::str::from_utf8(value).ok()?.parse().ok()?;
                if !seconds.is_finite() {
                    None // Go's number is out of range
                } else if seconds < 0.0 {
                    Some(Self::Forever)
                } else {
                    Some(Self::Nanos((seconds * SECOND) as u64))
                }
            }
            _ => None,
        }
    }

    /// What a node does with it: nothing to keep.
    pub(crate) fn is_zero(self) -> bool {
        self == Self::Nanos(0)
    }

    /// The bound that it is beyond, as a JSON value.
    pub(crate) fn held_to(self, bounds: Bounds) -> Option<String> {
        let nanos = |bound: Duration| bound.as_nanos();
        let (below, above) = match self {
            Self::Forever => (false, bounds.max.is_some()),
            Self::Nanos(asked) => (
                bounds.min.is_some_and(|min| u128::from(asked) < nanos(min)),
                bounds.max.is_some_and(|max| u128::from(asked) > nanos(max)),
            ),
        };
        let bound = bounds.max.filter(|_| above);
        bound.or(bounds.min.filter(|_| below)).map(written)
    }
}

/// Seconds as a number where they are whole, as clients write them.
fn written(bound: Duration) -> String {
    if bound.subsec_nanos() == 0 {
        bound.as_secs().to_string()
    } else {
        format!("\"{}ns\"", bound.as_nanos())
    }
}

/// Go's `time.ParseDuration`, its overflows and the truncation of fractions included.
fn go_duration(text: &str) -> Option<KeepAlive> {
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(KeepAlive::Nanos(0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (nanos, after) = term(rest)?;
        total = total.checked_add(nanos).filter(|&sum| sum <= MOST)?;
        rest = after;
    }
    match (negative, total) {
        (true, 1..) => Some(KeepAlive::Forever),
        (false, MOST) => None,
        _ => Some(KeepAlive::Nanos(total)),
    }
}

/// A number with its unit at the start of `text`, in nanoseconds, and what follows.
fn term(text: &str) -> Option<(u64, &str)> {
    let digits = |text: &str| {
        text.find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let (whole, mut rest) = text.split_at(digits(text));
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = after.split_at(digits(after));
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest.find(|letter: char| letter == '.' || letter.is_ascii_digit());
    let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
    let unit: u64 = match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?
    };
    let whole = whole.checked_mul(unit).filter(|&nanos| nanos <= MOST)?;
    let nanos = whole.checked_add(part_of(fraction, unit))?;
    (nanos <= MOST).then_some((nanos, after))
}

/// A fraction of a unit; Go passes over digits that no longer fit.
fn part_of(fraction: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0_u64, 1.0_f64);
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        if value > i64::MAX as u64 / 10 || value * 10 + digit > MOST {
            break;
        }
        value = value * 10 + digit;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<KeepAlive> {
        KeepAlive::read(value.as_bytes())
    }

    #[test]
    fn every_spelling_of_zero_is_zero() {
        for zero in [
            "0",
            "-0",
            "0.0",
            "0e9",
            "1e-10",
            "\"0\"",
            "\"-0\"",
            "\"0s\"",
            "\"0m\"",
            "\"0h0m\"",
            "\"-0s\"",
            "\"0.0000000001s\"",
            "\".0ms\"",
            "\"\\u0030s\"",
        ] {
            assert!(read(zero).unwrap().is_zero(), "{zero}");
        }
        for other in ["1", "1e-9", "\"1ns\"", "-1", "\"0.1s\"", "\"-1ns\""] {
            assert!(!read(other).unwrap().is_zero(), "{other}");
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let nanos = |n| Some(KeepAlive::Nanos(n));
        assert_eq!(read("300"), nanos(300_000_000_000));
        assert_eq!(read("0.5"), nanos(500_000_000));
        assert_eq!(read("\"1h30m\""), nanos(5_400_000_000_000));
        assert_eq!(read("\"1.5h\""), nanos(5_400_000_000_000));
        assert_eq!(read("\"+5.s\""), nanos(5_000_000_000));
        assert_eq!(read("\"3\u{b5}s\""), nanos(3_000));
        assert_eq!(read("\"3\u{3bc}s\""), nanos(3_000));
        assert_eq!(read("\"9223372036854775807ns\""), nanos(i64::MAX as u64));
        assert_eq!(read("-1"), Some(KeepAlive::Forever));
        assert_eq!(read("\"-1m\""), Some(KeepAlive::Forever));
        assert_eq!(read("\"-9223372036854775808ns\""), Some(KeepAlive::Forever));
        for invalid in [
            "null",
            "true",
            "[]",
            "{}",
            "\"\"",
            "\"5\"",
            "\"-\"",
            "\"s\"",
            "\".s\"",
            "\"1d\"",
            "\"1 s\"",
            "\" 1s\"",
            "\"0 \"",
            "\"00\"",
            "\"9223372036854775808ns\"",
            "\"1e3s\"",
            "\"99999999999h\"",
            "1e400",
        ] {
            assert_eq!(read(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn what_is_beyond_the_bounds_becomes_the_bound() {
        let bounds = Bounds {
            min: Some(Duration::from_millis(1500)),
            max: Some(Duration::from_secs(3600)),
        };
        let held = |value: &str, bounds| read(value).unwrap().held_to(bounds);
        assert_eq!(held("-1", bounds).as_deref(), Some("3600"));
        assert_eq!(held("\"24h\"", bounds).as_deref(), Some("3600"));
        assert_eq!(held("1e300", bounds).as_deref(), Some("3600"));
        assert_eq!(held("0", bounds).as_deref(), Some("\"1500000000ns\""));
        for within in ["\"1h\"", "3600", "1.5", "\"5m\""] {
            assert_eq!(held(within, bounds), None, "{within}");
        }
        let open = Bounds::default();
        assert!(held("-1", open).is_none() && held("0", open).is_none());
    }
}
