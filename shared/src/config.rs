//! The YAML file of a data plane, read into a validated configuration that reports every problem
//! at once, each with its key and line. All parsing of YAML in aivonx stands here.
//!
//! `reader` walks values and collects problems, `lines` finds the line of a key, `proxy` is the
//! configuration itself.

mod bounded;
mod control;
mod edge;
mod env;
mod front_door;
mod lines;
mod nesting;
mod networks;
mod operations;
mod proxy;
mod reader;
mod token;
mod units;
mod usage;

pub use control::{ControlConfig, LoginConfig, PullConfig};
pub use edge::{EdgeConfig, LimitConfig, TlsConfig};
pub use env::{Overrides, overrides_from};
pub use front_door::FrontDoorConfig;
pub use operations::{Advertise, OperationsConfig};
pub use proxy::{
    AccessLog, BodyConfig, BreakerConfig, BusConfig, ListenConfig, PollConfig, ProbeConfig,
    ProxyConfig, TimeoutConfig,
};
pub use reader::{Problem, Problems};
pub use usage::UsageConfig;

pub(crate) use bounded::refuse_endless;
pub(crate) use lines::Lines;
pub(crate) use networks::{network, networks, not_a_network};
pub(crate) use reader::Reader;
pub(crate) use units::Span;

/// JSON as YAML, for people to read.
pub(crate) fn yaml_of(json: &str) -> Option<String> {
    let value: serde_yaml::Value = serde_yaml::from_str(json).ok()?;
    serde_yaml::to_string(&value).ok()
}

/// Parses YAML text to a value tree; a syntax error becomes one problem with its line.
pub(crate) fn parse_yaml(text: &str) -> Result<serde_yaml::Value, Problems> {
    serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map(|at| at.line());
        let message = error.to_string();
        let message = message
            .split(" at line ")
            .next()
            .unwrap_or(&message)
            .to_owned();
        Problems::of(vec![Problem {
            key: String::new(),
            line,
            message: format!("not valid YAML: {message}"),
        }])
    })
}
