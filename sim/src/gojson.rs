//! JSON as Go's `encoding/json` reads and writes it, with its error texts.
//!
//! [`parse`] takes the first value of a body, [`bind::bind`] fits it to a struct of Ollama's API,
//! [`encode`] writes as Go does (`<`, `>` and `&` escaped).

pub(crate) mod bind;
pub(crate) mod encode;
mod scan;
pub(crate) mod schema;
#[cfg(test)]
mod tests;

pub(crate) use scan::parse;

use serde_json::{Map, Number, Value};

/// A parsed value with its keys in order, duplicates included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As written.
    Num(String),
    Str(String),
    Arr(Vec<Json>),
    Obj(Vec<(String, Json)>),
}

impl Json {
    /// What Go calls it in an error about types.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Num(_) => "number",
            Self::Str(_) => "string",
            Self::Arr(_) => "array",
            Self::Obj(_) => "object",
        }
    }

    /// As an untyped value; the last of duplicate keys wins.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Num(n) => number(n),
            Self::Str(s) => Value::String(s.clone()),
            Self::Arr(a) => Value::Array(a.iter().map(Self::to_value).collect()),
            Self::Obj(o) => Value::Object(
                o.iter()
                    .map(|(k, v)| (k.clone(), v.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

fn number(text: &str) -> Value {
    if let Ok(n) = text.parse::<i64>() {
        return n.into();
    }
    text.parse::<f64>()
        .ok()
        .and_then(Number::from_f64)
        .map_or(Value::Null, Value::Number)
}
