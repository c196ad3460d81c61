//! Expected time to first byte: a peak-sensitive moving average. It rises at once with a slow
//! answer and falls over time, so that a node which turned slow is left quickly and forgiven
//! slowly.
//!
//! Source: peak-EWMA as in Finagle and tower (`tower/src/load/peak_ewma.rs`): for a sample above
//! the average the average becomes the sample, else it decays with weight `exp(-Δt/τ)`.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Over this time an old average loses most of its weight.
const DECAY: Duration = Duration::from_secs(10);

/// Unheard of for this long, an estimate has faded to a third.
const FADE: Duration = Duration::from_secs(60);

/// One average.
#[derive(Debug, Default)]
pub(crate) struct Latency(Mutex<Option<Estimate>>);

#[derive(Debug, Clone, Copy)]
struct Estimate {
    seconds: f64,
    at: Instant,
    /// Whether only probes have spoken so far: the first real answer replaces it.
    seeded: bool,
}

impl Latency {
    /// Takes a probe's round trip as a first guess; real answers outweigh it for good.
    pub(crate) fn seed(&self, sample: Duration, now: Instant) {
        let mut slot = self.0.lock();
        if slot.is_none_or(|estimate| estimate.seeded) {
            *slot = Some(Estimate {
                seconds: sample.as_secs_f64(),
                at: now,
                seeded: true,
            });
        }
    }

    /// Takes the time to first byte of an answer.
    pub(crate) fn observe(&self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        let mut slot = self.0.lock();
        let seconds = match *slot {
            Some(old) if !old.seeded && sample < old.seconds => {
                let age = now.saturating_duration_since(old.at).as_secs_f64();
                let weight = (-age / DECAY.as_secs_f64()).exp();
                old.seconds * weight + sample * (1.0 - weight)
            }
            _ => sample,
        };
        *slot = Some(Estimate {
            seconds,
            at: now,
            seeded: false,
        });
    }

    /// Seconds expected to the first byte; `None` where nothing is known. An old estimate fades, so
    /// that a node which was slow once is tried again some time.
    pub(crate) fn seconds(&self, now: Instant) -> Option<f64> {
        self.0.lock().map(|estimate| {
            let age = now.saturating_duration_since(estimate.at).as_secs_f64();
            estimate.seconds * (-age / FADE.as_secs_f64()).exp()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_at_once_and_falls_over_time() {
        let (latency, now) = (Latency::default(), Instant::now());
        latency.seed(Duration::from_millis(1), now);
        latency.observe(Duration::from_secs(2), now);
        latency.seed(Duration::from_millis(1), now);
        assert_eq!(
            latency.seconds(now),
            Some(2.0),
            "a probe does not outweigh an answer"
        );
        latency.observe(Duration::from_secs(1), now);
        assert_eq!(latency.seconds(now), Some(2.0), "no time has passed");
        latency.observe(Duration::from_secs(1), now + DECAY);
        let after = latency.seconds(now + DECAY).unwrap();
        assert!(after > 1.3 && after < 1.4, "{after}");
        latency.observe(Duration::from_secs(5), now + DECAY);
        assert_eq!(latency.seconds(now + DECAY), Some(5.0));
        assert!(latency.seconds(now + DECAY + FADE).unwrap() < 2.0);
    }
}
