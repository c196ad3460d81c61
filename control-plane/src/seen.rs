//! What the data planes see, merged: their reports from the bus, the silent ones left out or marked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aivonx_shared::bus::Bus;
use aivonx_shared::report::{HealthSeen, NodeReport, Report, STALE};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;

/// How long the bus may take: an answer without reports is better than none.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a node answers its probes, as the data planes see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    /// For every data plane that looked.
    Up,
    /// For some of them.
    Partly,
    /// For none.
    Down,
    /// Nobody has looked, or nobody tells.
    Unknown,
}

/// What is seen of one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeSeen {
    pub(crate) health: Health,
    /// Requests with it, over all data planes.
    pub(crate) in_flight: u64,
    /// Expected seconds to the first byte: the best that any data plane sees.
    pub(crate) latency: Option<f64>,
    pub(crate) models: BTreeSet<String>,
    pub(crate) resident: BTreeSet<String>,
    pub(crate) version: Option<String>,
}

/// A data plane.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Plane {
    /// Which process.
    pub(crate) instance: String,
    version: String,
    /// Where its operations listener is.
    ops: String,
    /// The revision in force, `epoch.number`.
    pub(crate) applied: Option<String>,
    /// Whether it refused the newest document.
    pub(crate) refused: bool,
    pub(crate) draining: bool,
    /// Requests that it holds.
    active: u32,
    /// How long ago it reported, milliseconds.
    age_ms: u64,
    /// Whether it fell silent.
    pub(crate) stale: bool,
}

/// All reports.
pub(crate) struct Seen(Vec<Report>);

impl Seen {
    /// Asks the bus; without an answer nothing is seen.
    pub(crate) async fn of(app: &App) -> Self {
        Self::over(&*app.bus).await
    }

    /// The same of a bus alone.
    pub(crate) async fn over(bus: &dyn Bus) -> Self {
        let asked = tokio::time::timeout(PATIENCE, bus.reports()).await;
        Self(asked.ok().and_then(Result::ok).unwrap_or_default())
    }

    /// The reports of data planes that are not silent.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Report> {
        self.0.iter().filter(|report| report.age < STALE)
    }

    /// One node, by its name in the fleet document. An entry that discovers stands for several (`is_many`):
    /// their names begin with its own.
    pub(crate) fn node(&self, slug: &str, is_many: bool) -> NodeSeen {
        let seen = self.live().flat_map(|report| &report.nodes);
        let seen: Vec<&NodeReport> = seen
            .filter(|(name, _)| is_meant(name, slug, is_many))
            .map(|(_, node)| node)
            .collect();
        NodeSeen {
            health: health(&seen),
            in_flight: seen.iter().map(|node| u64::from(node.in_flight)).sum(),
            latency: seen
                .iter()
                .filter_map(|node| node.latency)
                .filter(|l| l.is_finite())
                .min_by(f64::total_cmp),
            models: seen
                .iter()
                .flat_map(|node| node.models.iter().cloned())
                .collect(),
            resident: seen
                .iter()
                .flat_map(|node| node.resident.iter().cloned())
                .collect(),
            version: seen.iter().find_map(|node| node.version.clone()),
        }
    }

    /// The names of the nodes that an entry stands for, as far as they are known.
    pub(crate) fn names(&self, slug: &str, is_many: bool) -> BTreeSet<String> {
        let names = self.live().flat_map(|report| report.nodes.keys());
        names
            .filter(|name| is_meant(name, slug, is_many))
            .cloned()
            .collect()
    }

    /// The health of each node, by name.
    pub(crate) fn healths(&self) -> BTreeMap<String, Health> {
        let mut seen: BTreeMap<&str, Vec<&NodeReport>> = BTreeMap::new();
        for (name, node) in self.live().flat_map(|report| &report.nodes) {
            seen.entry(name).or_default().push(node);
        }
        seen.into_iter()
            .map(|(name, nodes)| (name.to_owned(), health(&nodes)))
            .collect()
    }

    /// The data planes, silent ones too.
    pub(crate) fn planes(&self) -> Vec<Plane> {
        let plane = |report: &Report| Plane {
            instance: report.instance.clone(),
            version: report.version.clone(),
            ops: report.ops.clone(),
            applied: report.applied.map(|revision| revision.to_string()),
            refused: report.refused,
            draining: report.draining,
            active: report.active,
            age_ms: u64::try_from(report.age.as_millis()).unwrap_or(u64::MAX),
            stale: report.age >= STALE,
        };
        self.0.iter().map(plane).collect()
    }

    /// Each model and the nodes that have it, by name: installed and in memory.
    pub(crate) fn models(&self) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
        let mut models: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for (name, node) in self.live().flat_map(|report| &report.nodes) {
            for model in &node.models {
                models
                    .entry(model.clone())
                    .or_default()
                    .0
                    .insert(name.clone());
            }
            for model in &node.resident {
                models
                    .entry(model.clone())
                    .or_default()
                    .1
                    .insert(name.clone());
            }
        }
        models
    }
}

/// Whether a node of this name belongs to an entry.
fn is_meant(name: &str, slug: &str, is_many: bool) -> bool {
    match name.strip_prefix(slug) {
        Some("") => true,
        Some(rest) => is_many && rest.starts_with('-'),
        None => false,
    }
}

fn health(seen: &[&NodeReport]) -> Health {
    let count = |wanted| seen.iter().filter(|node| node.health == wanted).count();
    match (count(HealthSeen::Up), count(HealthSeen::Down)) {
        (0, 0) => Health::Unknown,
        (_, 0) => Health::Up,
        (0, _) => Health::Down,
        _ => Health::Partly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(age: u64, health: HealthSeen, in_flight: u32, latency: f64) -> Report {
        let node = NodeReport {
            health,
            in_flight,
            latency: Some(latency),
            models: vec!["tiny:latest".into()],
            ..NodeReport::default()
        };
        Report {
            nodes: [("a".to_owned(), node)].into(),
            age: Duration::from_secs(age),
            ..Report::default()
        }
    }

    #[test]
    fn what_several_planes_see_is_one_picture_without_the_silent_ones() {
        let seen = Seen(vec![
            report(0, HealthSeen::Up, 2, 0.5),
            report(1, HealthSeen::Down, 3, f64::INFINITY),
            report(9, HealthSeen::Up, 50, 0.1),
        ]);
        let node = seen.node("a", false);
        assert_eq!(
            (node.health, node.in_flight, node.latency),
            (Health::Partly, 5, Some(0.5))
        );
        assert_eq!(seen.node("b", false).health, Health::Unknown);
        let stale: Vec<_> = seen.planes().iter().map(|plane| plane.stale).collect();
        assert_eq!(stale, [false, false, true]);
        assert_eq!(seen.models()["tiny:latest"].0.len(), 1);
        assert_eq!(seen.healths()["a"], Health::Partly);
        assert_eq!(seen.names("a", false).len(), 1);
    }
}
