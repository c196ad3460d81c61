//! The control plane: the truth of which nodes, users, keys and settings there are, and the API that
//! changes it.

pub mod domain;
pub mod store;
