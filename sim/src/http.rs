//! HTTP/1.1 by hand, as Go's `net/http` speaks it: every byte, chunk and reset is ours to choose.

pub(crate) mod body;
pub(crate) mod conn;
pub(crate) mod head;
pub(crate) mod reply;
pub(crate) mod serve;
