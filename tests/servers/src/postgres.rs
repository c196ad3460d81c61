//! A private Postgres server.

/// A Postgres server that ends when it is dropped.
#[derive(Debug)]
pub struct Postgres {}
