//! Who somebody is and what they may do: passwords, tokens, sessions, roles. Values in, values out:
//! no database, no handlers, and instants and randomness are passed in. `api` asks, `store` keeps.
//!
//! Three ways to be known, one to become known:
//!
//! - a login (`throttle` → `password`) gives a pair of tokens or a session;
//! - the REST API takes an access token (`token`, renewed by `refresh`) or a personal one (`api_key`);
//! - the console has a cookie (`session`), guarded by `csrf` and `origin`;
//! - then `permission` says what the role allows.
//!
//! No secret leaves as it came: the store gets digests (`digest`) or hashes (`password`).

pub mod api_key;
pub mod bootstrap;
pub mod client;
pub mod csrf;
pub mod digest;
pub mod origin;
pub mod password;
pub mod permission;
pub mod random;
pub mod refresh;
pub mod session;
pub mod throttle;
pub mod token;

pub use crate::domain::Role;
pub use client::Client;
pub use digest::Digest;
pub use password::Passwords;
pub use permission::Permission;
pub use throttle::Throttle;
pub use token::KeyRing;
