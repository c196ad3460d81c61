//! The registry a node pulls from, as the node sees it: what there is and how fast it comes.

use super::ModelSpec;

/// A simulated registry.
#[derive(Clone, Debug)]
pub struct RegistrySpec {
    /// Whether it answers at all.
    pub reachable: bool,
    /// What can be pulled. Names with a host stand for that host's registry; the host of a
    /// pulled name is otherwise not looked at.
    pub models: Vec<ModelSpec>,
    /// Bytes a second of one connection; a large blob comes over several.
    pub bytes_per_second: f64,
    /// Bytes a second of all connections of one blob together.
    pub total_bytes_per_second: f64,
    /// Bytes a second at which a finished download is hashed.
    pub verify_bytes_per_second: f64,
}

impl RegistrySpec {
    /// A registry whose name cannot be looked up.
    pub fn unreachable() -> Self {
        Self {
            reachable: false,
            ..Self::serving([])
        }
    }

    /// A registry that serves these models without delay.
    pub fn serving(models: impl IntoIterator<Item = ModelSpec>) -> Self {
        Self {
            reachable: true,
            models: models.into_iter().collect(),
            bytes_per_second: f64::INFINITY,
            total_bytes_per_second: f64::INFINITY,
            verify_bytes_per_second: f64::INFINITY,
        }
    }

    /// Sets the speed of one connection in bytes a second.
    #[must_use]
    pub fn speed(mut self, bytes_per_second: f64) -> Self {
        self.bytes_per_second = bytes_per_second;
        self
    }
}
