//! The data plane of aivonx: a Pingora proxy in front of a fleet of Ollama servers.
//!
//! The way of a request, each step one module, in this order, no way back:
//!
//! ```text
//! edge               who the client is, TLS, its connections, its request's head
//! gateway            names the steps; Pingora's hooks
//!   request/route    method + path -> Route
//!   request/origin   Ollama's Host and Origin checks
//!   request/body     read within the budget, know the model, keep it for another attempt
//!   request/demand   what is demanded of a node
//!   request/edit     what the body shall say instead
//!   balance          candidates -> strategy -> permit
//!   upstream         connect, send, judge the answer's head; or another attempt
//!   relay            Pingora, chunk by chunk
//!   upstream/usage   tokens from the last bytes; and taken out where nobody asked for them
//!   telemetry        metrics, access line
//! ```
//!
//! What is the control plane's leaves after `request/front_door`, by `gateway/front_door` and
//! `upstream/control`.
//!
//! `fleet` is what all of them look at; `sync` (the fleet document) and `probe` (health, inventory,
//! residency) write to it; `merge` answers reads of the whole fleet from it; `store` changes what
//! nodes have, on several at once. `app` builds the server and is the only file that knows every
//! module.

mod app;
mod balance;
mod dice;
mod edge;
mod fleet;
mod gateway;
#[cfg(feature = "measure")]
pub mod measure;
mod merge;
mod names;
mod ops;
mod probe;
pub mod request;
mod store;
mod sync;
mod telemetry;
mod upstream;

pub use app::{Addresses, Bound, StartError, check};
pub use ops::MoreMetrics;
pub use sync::FleetSource;
pub use sync::file::{FileError, read as read_fleet};
