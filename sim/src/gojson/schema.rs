//! The structs of Ollama's API as far as their types decide what an error says.

use serde_json::Value;

use super::Json;

mod compat;
mod native;

pub(crate) use compat::*;
pub(crate) use native::*;

/// A Go struct.
#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) package: &'static str,
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [(&'static str, Ty)],
}

/// The type of a field.
#[derive(Debug)]
pub(crate) enum Ty {
    Any,
    Str,
    Bool,
    /// With its Go name.
    Int(&'static str),
    Float(&'static str),
    /// Base64 in JSON; bound to the number of bytes it stands for.
    Bytes,
    /// With the Go name of the whole.
    List(&'static str, &'static Ty),
    Map(&'static str, &'static Ty),
    Struct(&'static Struct),
    /// A type with its own `UnmarshalJSON`; null means: leave it.
    Custom(fn(&Json) -> Result<Value, String>),
}

impl Ty {
    pub(crate) fn go_name(&self) -> String {
        match self {
            Self::Any | Self::Custom(_) => "interface {}".into(),
            Self::Str => "string".into(),
            Self::Bool => "bool".into(),
            Self::Int(name) | Self::Float(name) | Self::List(name, _) | Self::Map(name, _) => {
                (*name).into()
            }
            Self::Bytes => "api.ImageData".into(),
            Self::Struct(shape) => format!("{}.{}", shape.package, shape.name),
        }
    }
}

const INT: Ty = Ty::Int("int");
const F64: Ty = Ty::Float("float64");
const F32: Ty = Ty::Float("float32");
const STRINGS: Ty = Ty::List("[]string", &Ty::Str);
const ANY_MAP: Ty = Ty::Map("map[string]interface {}", &Ty::Any);
const STRING_MAP: Ty = Ty::Map("map[string]string", &Ty::Str);

/// `keep_alive`: seconds or a Go duration; bound to seconds, negative for ever.
fn duration(json: &Json) -> Result<Value, String> {
    match json {
        Json::Null => Ok(Value::Null),
        Json::Num(n) => {
            let seconds = n.parse::<f64>().unwrap_or_default();
            Ok(if seconds < 0.0 {
                (-1.0).into()
            } else {
                seconds.into()
            })
        }
        Json::Str(text) => {
            let seconds = parse_duration(text)?;
            Ok(if seconds < 0.0 {
                (-1.0).into()
            } else {
                seconds.into()
            })
        }
        other => Err(format!("Unsupported type: '{}'", go_type(other))),
    }
}

fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Bool(_) => "bool",
        Json::Arr(_) => "[]interface {}",
        _ => "map[string]interface {}",
    }
}

/// `think`: a boolean or a level.
fn think(json: &Json) -> Result<Value, String> {
    match json {
        Json::Null | Json::Bool(_) => Ok(json.to_value()),
        Json::Str(level) if matches!(level.as_str(), "high" | "medium" | "low" | "max") => {
            Ok(json.to_value())
        }
        Json::Str(level) => Err(format!(
            "invalid think value: \"{level}\" (must be \"high\", \"medium\", \"low\", true, or false)"
        )),
        _ => Err(
            "think must be a boolean or string (\"high\", \"medium\", \"low\", true, or false)"
                .into(),
        ),
    }
}

/// Go's `time.ParseDuration`, in seconds.
fn parse_duration(text: &str) -> Result<f64, String> {
    let quoted = super::encode::go_quote(text);
    let bad = || format!("time: invalid duration {quoted}");
    let (sign, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let amount: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "" => return Err(format!("time: missing unit in duration {quoted}")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            other => {
                let unit = super::encode::go_quote(other);
                return Err(format!("time: unknown unit {unit} in duration {quoted}"));
            }
        };
        total += amount * seconds;
        rest = &rest[unit..];
    }
    Ok(sign * total)
}
