//! A part of a list.

use serde::Serialize;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows.
    pub limit: u32,
    /// After so many.
    pub offset: u32,
}

impl Page {
    /// Everything.
    pub const ALL: Self = Self {
        limit: u32::MAX,
        offset: 0,
    };

    pub(super) fn limit(self) -> i64 {
        i64::from(self.limit)
    }

    pub(super) fn offset(self) -> i64 {
        i64::from(self.offset)
    }
}

impl Default for Page {
    fn default() -> Self {
        Self {
            limit: 100,
            offset: 0,
        }
    }
}

/// A part of a list and how long the whole list is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rows<T> {
    /// Rows that fit the filter, in this part or not.
    pub count: i64,
    /// The rows of this part.
    pub rows: Vec<T>,
}

/// A pattern of LIKE for texts that contain this one, whatever its letters' case: the column holds small
/// letters. `\` is the escape.
pub(super) fn containing(text: &str) -> String {
    escaped(&text.to_lowercase())
}

/// A pattern of LIKE for texts that contain this one.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}
