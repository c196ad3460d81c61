//! Which of two fleet documents is the newer one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The age of a fleet document: by epoch, then by number. A later epoch is a database that began
/// anew, as after a restored backup; within one the number only grows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Revision {
    /// Which life of the database. Compared first: the order of the fields is the order of revisions.
    pub epoch: u64,
    /// Which change within it.
    pub number: u64,
}

impl Revision {
    /// The revision of this epoch and number.
    pub const fn new(epoch: u64, number: u64) -> Self {
        Self { epoch, number }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_is_newer_whatever_its_number_is() {
        let mut all = [(2, 1), (1, 10), (1, 9), (0, u64::MAX)]
            .map(|(epoch, number)| Revision::new(epoch, number));
        all.sort_unstable();
        let sorted = all.map(|revision| revision.to_string());
        assert_eq!(sorted, ["0.18446744073709551615", "1.9", "1.10", "2.1"]);
    }
}
