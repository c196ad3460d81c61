//! The revision of the fleet document.

use aivonx_shared::revision::Revision;

use super::change::Change;
use super::{Db, StoreError, run};

impl Db {
    /// The revision of the last change.
    pub async fn revision(&self) -> Result<Revision, StoreError> {
        run!(self, read, revision::get())
    }

    /// Begins a new epoch, as after a restored backup or an import: whatever numbers data planes have
    /// seen, what comes now is newer.
    /// `seen` is the newest revision that anybody is known to hold: the new one is newer than that, too.
    pub async fn new_epoch(
        &self,
        change: &Change,
        seen: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let change = change.clone();
        run!(self, write, audit::new_epoch(change, seen))
    }
}
