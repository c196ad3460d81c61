//! A value that may be written in the document, openly or sealed, or stand outside of it: `text`,
//! `{sealed: v1.…}`, `{file: FILE}` or `{env: NAME}`; with `key_file: FILE` as the short form of
//! `key: {file: FILE}`. In a document that a control plane exported it may be `{stored: NAME}`, which
//! that control plane alone can look up.

use std::path::PathBuf;

use serde_yaml::Value;

use super::Secret;
use crate::config::Reader;
use crate::sealed::is_sealed;

/// Where a value stands. None of it is ever printed but file names and names of variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Here; what was read from outside, or opened, is here, too.
    Here(Secret),
    /// Here, sealed under the key that both planes hold (`crate::sealed`).
    Sealed(String),
    /// In a file, relative to the document's folder.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
    /// In a control plane's database, as `gpu-1/bearer_token`.
    Stored(String),
}

impl Given {
    /// The value, once it is known.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Here(secret) => Some(secret.reveal()),
            Self::Sealed(_) | Self::File(_) | Self::Env(_) | Self::Stored(_) => None,
        }
    }
}

const SHAPES: &str = "must be text, `{file: FILE}`, `{env: NAME}` or `{sealed: v1.…}`";

/// Reads `key`, or the file that `file_key` names, and has `check` judge its text.
pub(crate) fn read_given(
    at: &Reader<'_>,
    key: &'static str,
    file_key: &'static str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Given> {
    let (value, file) = (at.value(key), at.get::<PathBuf>(file_key));
    match (value, file) {
        (Some(_), Some(_)) => {
            at.complain(
                file_key,
                &format!("write `{key}` or `{file_key}`, not both"),
            );
            None
        }
        (Some(value), None) => read_value(at, key, value, check),
        (None, Some(file)) => settle(at, file_key, Given::File(file), check),
        (None, None) => None,
    }
}

/// Reads a value that stands at `key`. What it is never appears in a problem.
pub(super) fn read_value(
    at: &Reader<'_>,
    key: &str,
    value: &Value,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Given> {
    match shape(value) {
        Some(given) => settle(at, key, given, check),
        None => {
            at.complain(key, SHAPES);
            None
        }
    }
}

fn shape(value: &Value) -> Option<Given> {
    if let Some(text) = value.as_str() {
        return Some(Given::Here(Secret::new(text)));
    }
    let map = value.as_mapping().filter(|map| map.len() == 1)?;
    let (kind, name) = map.iter().next()?;
    let name = name.as_str().filter(|name| !name.is_empty())?;
    match kind.as_str()? {
        "file" => Some(Given::File(name.into())),
        "env" => Some(Given::Env(name.to_owned())),
        "stored" => Some(Given::Stored(name.to_owned())),
        "sealed" if is_sealed(name) => Some(Given::Sealed(name.to_owned())),
        _ => None,
    }
}

/// Fetches what stands outside and opens what is sealed, where there is an outside, and judges what is known.
fn settle(
    at: &Reader<'_>,
    key: &str,
    given: Given,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Given> {
    let fetched = match (&given, at.outside()) {
        (Given::File(path), Some(outside)) => outside.file(path).map(Given::Here),
        (Given::Env(name), Some(outside)) => outside.variable(name).map(Given::Here),
        (Given::Sealed(text), Some(outside)) => outside.open(text).map(Given::Here),
        (Given::Stored(name), Some(outside)) => outside.stored(name).map(Given::Here),
        _ => Ok(given),
    };
    let judged = fetched.and_then(|given| {
        given.text().map_or(Ok(()), check)?;
        Ok(given)
    });
    judged.map_err(|problem| at.complain(key, &problem)).ok()
}
