//! The health of a node as its probes see it. Admin intent and inventory are other fields
//! (design.md D2); the breakers are in `breaker`.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use aivonx_shared::report::HealthSeen;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum HealthState {
    /// Never probed: takes no requests.
    Unknown = 0,
    /// Answers its probes.
    Up = 1,
    /// Failed its probes often enough in a row.
    Down = 2,
}

impl HealthState {
    /// As others are told.
    pub(crate) fn seen(self) -> HealthSeen {
        match self {
            Self::Unknown => HealthSeen::Unknown,
            Self::Up => HealthSeen::Up,
            Self::Down => HealthSeen::Down,
        }
    }
}

/// Counts probe results in a row and flips at the thresholds. One probe at a time writes
/// (`NodeState::probing`); requests read one byte.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: AtomicU8,
    /// Results in a row that speak against the state.
    against: AtomicU32,
}

impl Health {
    /// The state now.
    pub(crate) fn state(&self) -> HealthState {
        match self.state.load(Ordering::Acquire) {
            0 => HealthState::Unknown,
            1 => HealthState::Up,
            _ => HealthState::Down,
        }
    }

    /// Whether requests may be sent.
    pub(crate) fn is_up(&self) -> bool {
        self.state() == HealthState::Up
    }

    /// Whether the last probe spoke against the state.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.against.load(Ordering::Relaxed) > 0
    }

    /// Takes one probe result; gives the new state where it changed. The first result of all
    /// decides at once.
    pub(crate) fn observe(
        &self,
        ok: bool,
        healthy_after: u32,
        unhealthy_after: u32,
    ) -> Option<HealthState> {
        let (from, needed) = (
            self.state(),
            if ok { healthy_after } else { unhealthy_after },
        );
        let to = if ok {
            HealthState::Up
        } else {
            HealthState::Down
        };
        if from == to {
            self.against.store(0, Ordering::Relaxed);
            return None;
        }
        let seen = self.against.fetch_add(1, Ordering::Relaxed) + 1;
        if from != HealthState::Unknown && seen < needed {
            return None;
        }
        self.against.store(0, Ordering::Relaxed);
        self.state.store(to as u8, Ordering::Release);
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_probe_decides_and_later_ones_count_in_a_row() {
        let health = Health::default();
        assert_eq!(health.state(), HealthState::Unknown);
        assert_eq!(health.observe(true, 2, 2), Some(HealthState::Up));
        assert_eq!(health.observe(false, 2, 2), None);
        assert_eq!(health.observe(true, 2, 2), None);
        assert_eq!(health.observe(false, 2, 2), None, "the row was broken");
        assert_eq!(health.observe(false, 2, 2), Some(HealthState::Down));
        assert_eq!(health.observe(true, 1, 2), Some(HealthState::Up));
    }
}
