//! Which holders of a model have it in memory, for models that very many nodes hold: there a pick
//! cannot look at every holder, and must not miss the few warm ones.

use parking_lot::Mutex;

/// Indexes into the holders of one snapshot. A state notes itself when it becomes resident; one
/// that is not any more is dropped when a pick meets it.
#[derive(Debug, Default)]
pub(crate) struct Residents(Mutex<Vec<u32>>);

impl Residents {
    /// A holder has the model in memory now.
    pub(crate) fn note(&self, index: u32) {
        self.0.lock().push(index);
    }

    /// Shows at most `most` of them from a random place on; `look` says whether one is still
    /// resident. `start` is from 0 to 1.
    pub(crate) fn sample(&self, start: f64, most: usize, mut look: impl FnMut(usize) -> bool) {
        let mut list = self.0.lock();
        let mut at = (start * list.len() as f64) as usize;
        for _ in 0..most.min(list.len()) {
            at = if at < list.len() { at } else { 0 };
            let Some(index) = list.get(at) else { return };
            if look(*index as usize) {
                at += 1;
            } else {
                list.swap_remove(at);
            }
        }
    }
}
