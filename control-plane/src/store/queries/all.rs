//! The query layer. `pg` and `sqlite` each compile these files, for the `Conn` that they define; a
//! function runs in the transaction that its caller began.

use super::{Backend, Conn, reset_ids};

pub(in crate::store) mod api_key;
pub(in crate::store) mod audit;
pub(in crate::store) mod fleet;
pub(in crate::store) mod import;
pub(in crate::store) mod job;
pub(in crate::store) mod node;
pub(in crate::store) mod personal_token;
pub(in crate::store) mod refresh_token;
pub(in crate::store) mod revision;
pub(in crate::store) mod session;
pub(in crate::store) mod settings;
pub(in crate::store) mod signing_key;
pub(in crate::store) mod usage;
pub(in crate::store) mod user;
