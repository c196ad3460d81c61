//! Real servers for tests, each private to who starts it: in a temporary folder, on loopback, on a
//! free port. Dropping one ends it and removes its folder.

mod postgres;
mod redis;

pub use postgres::Postgres;
pub use redis::Redis;
