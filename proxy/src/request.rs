//! The steps of a request before a node is chosen, in their order: `route`, `origin`, `body`
//! (with `model_scan`), `demand`, `edit` (with `members`, `intent`, `keep_alive`); and `headers`, `rejection` and `judge` for what is answered.

pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod demand;
pub(crate) mod edit;
pub(crate) mod headers;
pub(crate) mod id;
pub(crate) mod intent;
pub(crate) mod judge;
pub(crate) mod keep_alive;
pub(crate) mod members;
pub mod model_scan;
pub(crate) mod origin;
pub(crate) mod rejection;
pub(crate) mod route;
