//! The store, on both databases: every test of `on_both!` runs on a SQLite file and on Postgres.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "store/world.rs"]
mod world;

#[path = "store/documents.rs"]
mod documents;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/imports.rs"]
mod imports;
#[path = "store/jobs.rs"]
mod jobs;
#[path = "store/keys.rs"]
mod keys;
#[path = "store/logins.rs"]
mod logins;
#[path = "store/migrations.rs"]
mod migrations;
#[path = "store/nodes.rs"]
mod nodes;
#[path = "store/predecessor.rs"]
mod predecessor;
#[path = "store/settings.rs"]
mod settings;
#[path = "store/usage.rs"]
mod usage;
#[path = "store/users.rs"]
mod users;
#[path = "store/writers.rs"]
mod writers;
