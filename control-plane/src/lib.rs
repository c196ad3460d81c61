//! The control plane: the truth of which nodes, users, keys and settings there are, and the API that
//! changes it.
//!
//! ```text
//! app, routes   composition; the only list of paths
//! api           one file a resource: reads a request, asks, answers
//! auth          who somebody is and what they may do; values in, values out
//! domain        drafts become valid values
//! predecessor   moving in from the predecessor's database
//! store         the truth, in Postgres or SQLite; every change is one transaction
//! publish       the truth onto the bus, for the data planes
//! seen          what the data planes report, merged
//! planes        asks a data plane to do something: it alone reaches nodes
//! jobs          work that outlives a request: pulls
//! events        what changes, for those who listen
//! usage         what was used, off the bus into the store
//! docs          the API's documentation, made from the handlers
//! ops           the operations listener: metrics and probes
//! telemetry     what is counted
//! ```

mod api;
mod app;
pub mod auth;
mod docs;
pub mod domain;
mod events;
mod jobs;
mod ops;
mod planes;
pub mod predecessor;
mod problem;
mod publish;
mod routes;
mod seen;
pub mod store;
pub mod telemetry;
mod usage;

pub use app::{Bound, Options, Progress, StartError, openapi};
pub use ops::Operations;
