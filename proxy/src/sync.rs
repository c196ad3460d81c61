//! How the fleet document reaches a data plane: from a file here; from the bus with the control
//! plane. An invalid document leaves the one in force. `discover` turns entries that stand for a whole
//! name into nodes.

mod discover;
pub(crate) mod file;
pub(crate) mod members;
