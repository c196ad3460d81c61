//! How the fleet document reaches a data plane: from a file here; from the bus with the control
//! plane. An invalid document leaves the one in force.

pub(crate) mod file;
