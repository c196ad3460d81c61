//! A private Redis server.

/// A Redis server that ends when it is dropped.
#[derive(Debug)]
pub struct Redis {}
