//! The metrics of a control plane: one registry, passed in (design.md D10). Every name begins with
//! `aivonx_control_plane_`, so that in one process with a data plane none comes twice. Labels come from tables
//! of this program, never from a client's text.

mod families;
mod logins;
mod publishing;
mod requests;
mod seen;
mod store;
mod usage;

use prometheus::{Registry, TextEncoder};

pub use logins::{LoginMetrics, LoginResult};
pub use publishing::PublishMetrics;
pub use requests::RequestMetrics;
pub use seen::{PlanesSeen, SeenMetrics};
pub use store::StoreMetrics;
pub use usage::UsageMetrics;

pub(crate) use requests::measure;

use families::Families;

/// Every family of a control plane. Cheap to clone; all clones count in the same series.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests to the API.
    pub requests: RequestMetrics,
    /// Tries to log in.
    pub logins: LoginMetrics,
    /// What the database could not do.
    pub store: StoreMetrics,
    /// The road to the data planes.
    pub publishing: PublishMetrics,
    /// Batches of usage.
    pub usage: UsageMetrics,
    /// What is read when somebody asks for the metrics.
    pub seen: SeenMetrics,
}

impl Metrics {
    /// Registers every family; a name taken twice is a bug here.
    pub fn new() -> prometheus::Result<Self> {
        let families = Families::new();
        families
            .gauges(
                "build_info",
                "Always 1; the label says which version runs.",
                &["version"],
            )?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Ok(Self {
            requests: RequestMetrics::register(&families)?,
            logins: LoginMetrics::register(&families)?,
            store: StoreMetrics::register(&families)?,
            publishing: PublishMetrics::register(&families)?,
            usage: UsageMetrics::register(&families)?,
            seen: SeenMetrics::register(&families)?,
            registry: families.into_registry(),
        })
    }

    /// Everything as text.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aivonx_shared::revision::Revision;

    use super::*;
    use crate::store::StoreError;

    #[test]
    fn families_register_once_and_count() {
        let metrics = Metrics::new().unwrap();
        metrics.logins.count(LoginResult::Refused);
        metrics.store.failed(&StoreError::Unavailable);
        metrics.store.failed(&StoreError::NotFound);
        metrics.publishing.bus_answers(true);
        metrics.publishing.is_at(Revision::new(7, 42));
        metrics
            .publishing
            .published("applied", Duration::from_millis(3));
        metrics.usage.stored();
        let text = metrics.render().unwrap();
        for line in [
            "logins_total{result=\"refused\"} 1",
            "logins_total{result=\"ok\"} 0",
            "store_errors_total{reason=\"unavailable\"} 1",
            "bus_connected 1",
            "fleet_revision 42",
            "publishes_total{result=\"applied\"} 1",
            "publish_seconds_count 1",
            "usage_batches_total{result=\"stored\"} 1",
        ] {
            let line = format!("\naivonx_control_plane_{line}\n");
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(!text.contains("not_found"), "{text}");
    }
}
