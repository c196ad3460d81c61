//! The steps of a request before a node is chosen, in their order: `route`, `client` and `auth`,
//! `origin`, `limit`, `body` (with `model_scan`), `demand`, `permission`, `edit` (with `members`,
//! `intent`, `keep_alive`); and `headers`, `rejection` and `judge` for what is answered. `front_door`
//! stands beside `route`: what is the control plane's takes none of the other steps.

pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod client;
pub(crate) mod demand;
pub(crate) mod edit;
pub(crate) mod front_door;
pub(crate) mod headers;
pub(crate) mod id;
pub(crate) mod intent;
pub(crate) mod judge;
pub(crate) mod keep_alive;
pub(crate) mod limit;
pub(crate) mod members;
pub mod model_scan;
pub(crate) mod origin;
pub(crate) mod permission;
pub(crate) mod rejection;
pub(crate) mod route;
