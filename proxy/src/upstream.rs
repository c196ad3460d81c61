//! The node's side of a request: the peer to connect to, the connection that can be ended from
//! outside, what an answer means for a retry, the tokens in its last bytes, and the filter that takes
//! counts out again. And the way to the control plane, which shares the connections.

pub(crate) mod attempt;
pub(crate) mod connection;
pub(crate) mod control;
pub(crate) mod peer;
pub(crate) mod retry;
pub(crate) mod usage;
pub(crate) mod usage_filter;
pub(crate) mod words;
