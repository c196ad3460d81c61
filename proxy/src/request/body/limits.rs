//! What bodies may take: memory, length, and time.

use std::sync::Arc;
use std::time::Duration;

use crate::request::budget::BodyBudget;
use crate::request::rejection::Rejection;

/// What bodies may take.
pub(crate) struct BodyLimits {
    /// Memory for one request, bytes.
    pub(crate) each: u64,
    /// Over all.
    pub(crate) budget: Arc<BodyBudget>,
    /// The longest that is taken at all, bytes; 0 means any.
    pub(crate) most: u64,
    /// Bytes a second that must come on average; 0 means any.
    pub(crate) rate: u64,
    /// Between two reads, and before the rate counts.
    pub(crate) patience: Duration,
}

impl BodyLimits {
    /// How long the next read may take, of a body of which this much came in this time.
    pub(crate) fn patience(&self, read: u64, after: Duration) -> Duration {
        let Some(seconds) = read.checked_div(self.rate) else {
            return self.patience;
        };
        let all = self.patience + Duration::from_secs(seconds);
        all.saturating_sub(after).min(self.patience)
    }

    /// Whether a body of this length is taken.
    pub(super) fn admits(&self, length: u64) -> Result<(), Rejection> {
        if self.most > 0 && length > self.most {
            return Err(Rejection::BodyLimit(self.most));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(most: u64, rate: u64) -> BodyLimits {
        BodyLimits {
            each: 1 << 20,
            budget: BodyBudget::new(1 << 20),
            most,
            rate,
            patience: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_slow_line_is_waited_for_and_a_trickle_is_not() {
        let limits = limits(0, 1024);
        let patience = |read, seconds| {
            limits
                .patience(read, Duration::from_secs(seconds))
                .as_secs()
        };
        assert_eq!(patience(0, 0), 60);
        // 60 MB at 100 kB/s
        assert_eq!(patience(30_000_000, 300), 60);
        assert_eq!(patience(60_000_000, 599), 60);
        // a byte a second
        assert_eq!(patience(50, 50), 10);
        assert_eq!(patience(60, 60), 0);
        // a stop after a good beginning
        assert_eq!(patience(1 << 20, 1070), 14);
        assert_eq!(
            self::limits(0, 0)
                .patience(1, Duration::from_secs(3600))
                .as_secs(),
            60
        );
    }

    #[test]
    fn only_what_is_longer_than_the_limit_is_refused() {
        assert_eq!(limits(10, 0).admits(10), Ok(()));
        assert_eq!(limits(10, 0).admits(11), Err(Rejection::BodyLimit(10)));
        assert_eq!(limits(0, 0).admits(u64::MAX), Ok(()));
    }
}
