//! Who may use the fleet without a key (design.md D8).

use std::collections::HashSet;

use ipnet::IpNet;
use serde_yaml::Value;

use super::keys::{Scopes, read_id, read_scopes};
use super::limits::{Limits, read_limits};
use super::read_patterns;
use crate::config::{Reader, network, not_a_network};
use crate::model_name::ModelPattern;

/// Who may use the fleet without a key.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Anonymous {
    /// Clients on this machine only; they may manage, too, as Ollama lets them.
    #[default]
    Loopback,
    /// Everybody who can connect may infer; has to be written down.
    Always,
    /// Nobody.
    Never,
    /// Clients of these networks; the first that holds the client's address counts.
    Networks(Vec<NetworkDoc>),
}

/// A network whose clients need no key.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkDoc {
    /// Unique; shown in metrics and logs.
    pub id: String,
    /// The addresses.
    pub cidr: IpNet,
    /// What they may do.
    pub scopes: Scopes,
    /// The models they may use; empty: all.
    pub models: Vec<ModelPattern>,
    /// How much each address may ask.
    pub limits: Limits,
}

/// Reads `anonymous`.
pub(super) fn read_anonymous(root: &Reader<'_>, ids: &mut HashSet<String>) -> Anonymous {
    match root.value("anonymous") {
        None => Anonymous::Loopback,
        Some(Value::String(word)) if word == "loopback" => Anonymous::Loopback,
        Some(Value::String(word)) if word == "always" => Anonymous::Always,
        Some(Value::String(word)) if word == "never" => Anonymous::Never,
        Some(Value::Sequence(_)) => {
            let networks = root.list("anonymous");
            let networks = networks.iter().filter_map(|at| read_network(at, ids));
            Anonymous::Networks(networks.collect())
        }
        Some(_) => {
            root.complain(
                "anonymous",
                "must be loopback, always, never or a list of networks such as [{cidr: 10.0.0.0/8, id: office}]",
            );
            Anonymous::Loopback
        }
    }
}

fn read_network(at: &Reader<'_>, ids: &mut HashSet<String>) -> Option<NetworkDoc> {
    let id = read_id(at, ids);
    let cidr = at.get::<String>("cidr");
    if cidr.is_none() && at.value("cidr").is_none() {
        at.complain_here("needs a `cidr`, as 10.0.0.0/8");
    }
    let cidr = cidr.and_then(|text| {
        let cidr = network(&text);
        if cidr.is_none() {
            at.complain("cidr", &not_a_network(&text));
        }
        cidr
    });
    let scopes = read_scopes(at);
    let models = read_patterns(at, "models");
    let limits = read_limits(at);
    at.finish();
    Some(NetworkDoc {
        id: id?,
        cidr: cidr?,
        scopes,
        models,
        limits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_doc::FleetDoc;

    fn read(anonymous: &str) -> Result<Anonymous, String> {
        FleetDoc::from_yaml(&format!("nodes: []\nanonymous: {anonymous}\n"))
            .map(|doc| doc.anonymous)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn words_and_networks_are_read() {
        assert_eq!(read("never"), Ok(Anonymous::Never));
        assert_eq!(read("always"), Ok(Anonymous::Always));
        assert_eq!(read("loopback"), Ok(Anonymous::Loopback));
        let Ok(Anonymous::Networks(networks)) = read(
            "[{cidr: 10.0.0.0/8, id: office, models: [\"tiny*\"], rate: 10/s}, {cidr: \"::1\", id: here, scopes: [infer, manage]}]",
        ) else {
            panic!("a list of networks");
        };
        assert_eq!(networks[0].scopes, Scopes::INFER);
        assert_eq!(networks[0].limits.rate.map(|rate| rate.burst), Some(10));
        assert_eq!(networks[1].scopes, Scopes::ALL);
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(read("sometimes").unwrap_err().contains("list of networks"));
        let problems = read("[{cidr: 10.0.0.0/40, id: a}, {id: a}]").unwrap_err();
        for part in ["anonymous[0].cidr", "anonymous[1].id", "needs a `cidr`"] {
            assert!(problems.contains(part), "{part} in\n{problems}");
        }
    }
}
