//! The contract between aivonx's planes: names, the fleet document, the configuration file and
//! the error bodies of each dialect. It knows neither Pingora, actix nor diesel.

pub mod config;
pub mod error_body;
pub mod fleet_doc;
pub mod model_name;
pub mod revision;
