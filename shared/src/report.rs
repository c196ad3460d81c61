//! What a data plane says of itself, twice a second: what it sees of each node, and its counters. The
//! control plane merges reports. And, more often and much shorter, what it has in flight: other data planes
//! add that to their own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::revision::Revision;

/// From this age of its last report on a data plane is taken for silent; they report twice a second.
pub const STALE: Duration = Duration::from_secs(3);

/// One data plane at one moment. What a later version adds is passed over; what an earlier one does
/// not say has its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Which process: another one after each start.
    pub instance: String,
    /// Where its operations listener is, `host:port`.
    pub ops: String,
    /// Its version of aivonx.
    pub version: String,
    /// When it started, milliseconds since 1970 by its own clock.
    pub started_ms: u64,
    /// When it said this, milliseconds since 1970 by its own clock.
    pub sent_ms: u64,
    /// The document in force; `None` where it has none.
    pub applied: Option<Revision>,
    /// Whether the newest document was refused and the one before stays in force.
    pub refused: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Requests that it holds, with a node or not yet.
    pub active: u32,
    /// What it sees of each node, by name.
    pub nodes: BTreeMap<String, NodeReport>,
    /// What it has counted since its start.
    pub counters: Counters,
    /// How long ago it arrived, by the bus's own clock: no word of the sender's.
    #[serde(skip)]
    pub age: Duration,
}

/// What a data plane sees of one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// Where it is.
    pub url: String,
    /// Whether it answers its probes.
    pub health: HealthSeen,
    /// Whether its breaker lets no request pass now.
    pub breaker_open: bool,
    /// Requests of this data plane that are with it.
    pub in_flight: u32,
    /// The same by model, without those that have none.
    pub in_flight_models: BTreeMap<String, u32>,
    /// Of these, those that still wait for their first byte.
    pub waiting: u32,
    /// Expected time to the first byte, seconds.
    pub latency: Option<f64>,
    /// Its Ollama's version.
    pub version: Option<String>,
    /// The models that it has installed, as `llama3:latest`.
    pub models: Vec<String>,
    /// The models that it has in memory.
    pub resident: Vec<String>,
}

/// Whether a node answers its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthSeen {
    /// It does.
    Up,
    /// It does not.
    Down,
    /// It was not probed yet, or will not be.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a data plane has in flight. Nodes and models without a request are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Which process, as in its reports.
    pub instance: String,
    /// By the node's name.
    pub nodes: BTreeMap<String, NodeLoad>,
}

/// What a data plane has in flight on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeLoad {
    /// Over all models, and without one.
    pub in_flight: u32,
    /// By model, as `llama3:latest`.
    pub models: BTreeMap<String, u32>,
}

/// What a data plane has counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Requests answered.
    pub requests: u64,
    /// Of these, those that it answered itself with an error.
    pub rejected: u64,
    /// Attempts that went to another node.
    pub retries: u64,
    /// Tokens of prompts, as nodes counted them.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../tests/golden/report.json");

    fn report() -> Report {
        let node = NodeReport {
            url: "http://10.0.0.1:11434".into(),
            health: HealthSeen::Up,
            breaker_open: false,
            in_flight: 3,
            in_flight_models: [("qwen3:8b".to_owned(), 2)].into(),
            waiting: 1,
            latency: Some(0.25),
            version: Some("0.33.0".into()),
            models: vec!["llama3:latest".into(), "qwen3:8b".into()],
            resident: vec!["qwen3:8b".into()],
        };
        Report {
            instance: "gw-1-1f".into(),
            ops: "10.0.0.9:8002".into(),
            version: "0.1.0".into(),
            started_ms: 1_787_188_364_000,
            sent_ms: 1_787_188_365_500,
            applied: Some(Revision::new(1, 42)),
            refused: false,
            draining: true,
            active: 4,
            nodes: [("gpu-1".to_owned(), node)].into(),
            counters: Counters {
                requests: 10,
                rejected: 2,
                retries: 1,
                prompt_tokens: 300,
                output_tokens: 400,
            },
            age: Duration::ZERO,
        }
    }

    #[test]
    fn a_report_is_written_and_read_as_its_fixture_says() {
        let text = serde_json::to_string_pretty(&report()).unwrap();
        assert_eq!(text, GOLDEN.trim());
        assert_eq!(serde_json::from_str::<Report>(GOLDEN).unwrap(), report());
    }

    #[test]
    fn a_load_is_written_and_read_alike() {
        let text =
            r#"{"instance":"gw-1","nodes":{"a":{"in_flight":2,"models":{"tiny:latest":1}}}}"#;
        let load: Load = serde_json::from_str(text).unwrap();
        assert_eq!(load.nodes["a"].models["tiny:latest"], 1);
        assert_eq!(serde_json::to_string(&load).unwrap(), text);
    }

    #[test]
    fn reports_of_other_versions_are_read_as_far_as_they_go() {
        let text = r#"{"instance":"a","later":1,"nodes":{"n":{"in_flight":2,"health":"asleep"}}}"#;
        let read: Report = serde_json::from_str(text).unwrap();
        let node = &read.nodes["n"];
        assert_eq!((node.in_flight, node.health), (2, HealthSeen::Unknown));
        assert_eq!(read.applied, None);
    }
}
