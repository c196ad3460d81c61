//! End to end: the real binary in front of simulated Ollama nodes, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]
#![allow(
    clippy::too_many_lines,
    reason = "a test tells one story from start to end"
)]
#![allow(clippy::format_collect, reason = "a few lines of YAML, not a hot path")]
#![allow(clippy::float_cmp, reason = "counters are whole numbers")]

mod support;

mod access;
mod bad_input;
mod bodies;
mod control;
mod edge;
mod edits;
mod exactness;
mod failure;
mod front_door;
mod life;
mod nodes;
mod operations;
mod planes;
mod road;
mod routing;
mod store;
