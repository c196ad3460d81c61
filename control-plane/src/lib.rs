//! The control plane.

pub mod auth;
