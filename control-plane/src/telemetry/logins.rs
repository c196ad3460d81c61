//! Tries to log in: somebody who guesses shows here.

use prometheus::IntCounterVec;

use super::families::Families;

/// What became of a try to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginResult {
    /// It was let in.
    Ok,
    /// The name or the password was wrong, or the user may not log in.
    Refused,
    /// It has to wait, after others that failed.
    Throttled,
    /// It could not be judged.
    Failed,
}

/// Counts tries to log in.
#[derive(Clone)]
pub struct LoginMetrics {
    tries: IntCounterVec,
}

impl LoginResult {
    const ALL: [&str; 4] = ["ok", "refused", "throttled", "failed"];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

impl LoginMetrics {
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        let tries = families.counters_of(
            "logins_total",
            "Tries to log in with a password, by what became of them.",
            ("result", &LoginResult::ALL),
        )?;
        Ok(Self { tries })
    }

    /// Counts a try.
    pub fn count(&self, result: LoginResult) {
        self.tries.with_label_values(&[result.as_str()]).inc();
    }
}
