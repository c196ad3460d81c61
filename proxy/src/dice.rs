//! Seeded random numbers that many threads may draw at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// A generator; equal seeds give equal rows.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    /// A generator from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Any 64 bits. `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014): its state is a counter, so one
    /// atomic addition serves any number of threads.
    pub(crate) fn number(&self) -> u64 {
        const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self
            .0
            .fetch_add(GAMMA, Ordering::Relaxed)
            .wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 (included) to 1 (excluded).
    pub(crate) fn roll(&self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }
}
