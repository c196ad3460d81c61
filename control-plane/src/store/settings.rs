//! Settings of the fleet.

use aivonx_shared::revision::Revision;
use serde::Serialize;

use super::change::Change;
use super::value::Time;
use super::{Db, StoreError, run};
use crate::domain::{Settings, SettingsPatch};

/// The settings and their version.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SettingsRow {
    /// What is set.
    pub settings: Settings,
    /// Grows with each change of any of them; 0 where nothing was ever set.
    pub version: i64,
    /// When one was last changed.
    pub updated_at: Option<Time>,
}

impl Db {
    /// The settings.
    pub async fn settings(&self) -> Result<SettingsRow, StoreError> {
        run!(self, read, settings::get())
    }

    /// Changes settings. A network of `anonymous` that has the id of a key is `Invalid`.
    pub async fn set_settings(
        &self,
        change: &Change,
        expected: Option<i64>,
        patch: SettingsPatch,
    ) -> Result<(SettingsRow, Revision), StoreError> {
        let change = change.clone();
        run!(self, write, settings::set(change, expected, patch))
    }
}
