//! How many nodes download at once, over all requests of this data plane: a turn is held for as
//! long as a node works, and comes in the order in which it was asked for.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns there are.
pub(crate) struct Turns {
    free: Arc<Semaphore>,
    /// How many there are, taken ones included. Guards the changes of their number.
    all: Mutex<usize>,
}

/// The right to work; dropping it passes it on.
pub(crate) struct Turn {
    _held: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// None yet: `set` says how many.
    pub(crate) fn new() -> Self {
        Self {
            free: Arc::new(Semaphore::new(0)),
            all: Mutex::new(0),
        }
    }

    /// Follows the document. Of fewer turns, those that are taken go when they are given back.
    pub(crate) fn set(&self, wanted: u32) {
        let wanted = wanted as usize;
        let mut all = self.all.lock();
        if wanted >= *all {
            self.free.add_permits(wanted - *all);
            *all = wanted;
        } else {
            *all -= self.free.forget_permits(*all - wanted);
        }
    }

    /// A turn, if one is free.
    pub(crate) fn take_now(&self) -> Option<Turn> {
        let held = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Turn { _held: Some(held) })
    }

    /// The next turn.
    pub(crate) async fn take(&self) -> Turn {
        // never closed: without an error there is always one
        let held = Arc::clone(&self.free).acquire_owned().await.ok();
        Turn { _held: held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_follow_the_document_and_come_in_order() {
        let turns = Arc::new(Turns::new());
        turns.set(2);
        let (first, second) = (turns.take_now().unwrap(), turns.take_now().unwrap());
        assert!(turns.take_now().is_none());
        turns.set(3);
        let third = turns.take_now().unwrap();
        turns.set(1);
        drop((first, second));
        turns.set(1);
        assert!(turns.take_now().is_none(), "one is enough now");
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take().await }
        });
        drop(third);
        waiting.await.unwrap();
        assert!(turns.take_now().is_some());
    }
}
