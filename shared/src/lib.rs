//! The contract between aivonx's planes: names, the fleet document, the configuration file, the error
//! bodies of each dialect, and the bus with all that travels on it. It knows neither Pingora, actix nor
//! diesel.

pub mod bus;
pub mod config;
pub mod error_body;
pub mod fleet_doc;
pub mod model_name;
pub mod operations;
pub mod published;
pub mod report;
pub mod revision;
pub mod sealed;
pub mod usage_batch;
