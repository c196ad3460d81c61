//! Memory for request bodies over all requests: a permit of bytes, given back on drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that may be held at once.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    total: u64,
    used: AtomicU64,
}

impl BodyBudget {
    /// A budget of `total` bytes.
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            used: AtomicU64::new(0),
        })
    }

    /// Bytes held now.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, if there are as many.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.total);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        Some(Charge {
            bytes,
            budget: Arc::clone(self),
        })
    }
}

/// Bytes taken from a budget.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: u64,
    budget: Arc<BodyBudget>,
}

impl Charge {
    /// How many there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` on top; false where there are not as many.
    pub(crate) fn grow(&mut self, more: u64) -> bool {
        match self.budget.take(more) {
            Some(mut charge) => {
                self.bytes += std::mem::take(&mut charge.bytes);
                true
            }
            None => false,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_whole() {
        let budget = BodyBudget::new(100);
        let mut charge = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        assert!(charge.grow(40) && !charge.grow(1));
        drop(charge);
        assert_eq!(budget.used(), 0);
        assert!(budget.take(u64::MAX).is_none());
    }
}
