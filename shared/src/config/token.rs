//! Tokens that both planes hold: by one of them a plane knows who asks.

use super::Reader;
use crate::fleet_doc::{Secret, read_given};

/// Shortest and longest token, characters: one that could be guessed would let anybody on the planes'
/// network pass for one of them.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=512;

/// Reads the token at `key`, or in the file that `file_key` names. What it is never appears in a problem.
pub(super) fn read(at: &Reader<'_>, key: &'static str, file_key: &'static str) -> Option<Secret> {
    let given = read_given(at, key, file_key, check)?;
    given.text().map(Secret::new)
}

fn check(text: &str) -> Result<(), String> {
    if LENGTH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let (least, most) = (LENGTH.start(), LENGTH.end());
    Err(format!(
        "must be {least} to {most} letters, digits and signs, no spaces"
    ))
}
