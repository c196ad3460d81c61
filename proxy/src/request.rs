//! The steps of a request before a node is chosen, in their order: `route`, `origin`, `body`
//! (with `model_scan`), `demand`; and `headers`, `rejection` and `judge` for what is answered.

pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod demand;
pub(crate) mod headers;
pub(crate) mod id;
pub(crate) mod judge;
pub mod model_scan;
pub(crate) mod origin;
pub(crate) mod rejection;
pub(crate) mod route;
