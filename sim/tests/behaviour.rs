//! What a simulated node does beyond the recordings: other names and requests by the same rules,
//! faults on command, capabilities, transfers, and many streams at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "behaviour/account.rs"]
mod account;
#[path = "behaviour/answers.rs"]
mod answers;
#[path = "behaviour/faults.rs"]
mod faults;
#[path = "behaviour/many.rs"]
mod many;
#[path = "behaviour/scheduling.rs"]
mod scheduling;
#[path = "behaviour/transfers.rs"]
mod transfers;
