//! The REST API: one file a resource. A handler reads the request, asks `store` and the bus, and answers;
//! who may do what stands in its first line.

pub(crate) mod account;
mod actor;
pub(crate) mod audit;
mod body;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod fleet;
pub(crate) mod import;
pub(crate) mod jobs;
pub(crate) mod keys;
mod list;
pub(crate) mod nodes;
pub(crate) mod probe;
pub(crate) mod pull;
pub(crate) mod session;
mod sse;
pub(crate) mod state;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod users;
mod version;

use crate::seen;

pub(crate) use body::LONGEST as LONGEST_BODY;
