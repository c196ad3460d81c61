//! A simulated Ollama node: the stand-in for a GPU machine in tests, the demo and benchmarks.
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! use aivonx_sim::{Fault, ModelSpec, NodeSpec, SimNode};
//!
//! let node = SimNode::start(NodeSpec::new().model(ModelSpec::new("llama3"))).await?;
//! println!("{}", node.url());
//! node.fault(Fault::error_500());
//! # Ok(())
//! # }
//! ```
//!
//! The way of a request: `http::head` reads it, `routes` and `cors` say where it goes,
//! `fault` may break it, `handlers` answers: reads from `store`, inference through `infer`
//! (`sched` for a runner and a slot, `generation` for tokens) and out in a dialect.
//! Held to a real server's recordings in `recordings/`; no answer of theirs is in here.

mod answer;
mod clock;
mod cloud;
pub mod control;
mod cors;
mod digest;
mod fault;
mod generation;
mod gojson;
mod handlers;
mod http;
mod infer;
mod node;
mod prompt;
mod pull;
mod routes;
mod sched;
mod seen;
mod sim_node;
mod spec;
mod store;
mod words;

pub use cloud::{Account, RemoteSpec};
pub use fault::{Fault, FaultScope};
pub use seen::{Outcome, SeenRequest};
pub use sim_node::SimNode;
pub use spec::{ModelDetails, ModelSpec, NodeSpec, RegistrySpec};
