//! What is seen from outside: metrics, one access line a request, and the operations listener.

pub(crate) mod access_log;
pub(crate) mod metrics;
pub(crate) mod series;
pub(crate) mod usage;
