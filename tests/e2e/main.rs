//! End to end: the real binary in front of simulated Ollama nodes, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

mod support;

mod bad_input;
mod bodies;
mod exactness;
mod failure;
mod life;
mod routing;
