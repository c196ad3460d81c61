//! The control plane: the truth of which nodes, users, keys and settings there are, and the API that
//! changes it.
//!
//! ```text
//! app, routes   composition; the only list of paths
//! api           one file a resource: reads a request, asks, answers
//! auth          who somebody is and what they may do; values in, values out
//! domain        drafts become valid values
//! store         the truth, in Postgres or SQLite; every change is one transaction
//! publish       the truth onto the bus, for the data planes
//! usage         what was used, off the bus into the store
//! docs          the API's documentation, made from the handlers
//! ```

mod api;
mod app;
pub mod auth;
mod docs;
pub mod domain;
mod problem;
mod publish;
mod routes;
pub mod store;
mod usage;

pub use app::{Bound, Options, StartError};
