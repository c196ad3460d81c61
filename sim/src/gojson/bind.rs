//! Fitting a parsed body to a struct of Ollama's API, as `json.Decoder.Decode` does.
//!
//! Keys match in any case, the last of duplicates wins, `null` leaves what was there, unknown keys
//! are skipped. The first wrong type is the error, but only after everything has been read.

use serde_json::{Map, Value};

use super::Json;
use super::schema::{Struct, Ty};

/// The fields that were given, under the names of the struct.
pub(crate) type Bound = Map<String, Value>;

/// Fits `json` to `shape`.
pub(crate) fn bind(json: &Json, shape: &'static Struct) -> Result<Bound, String> {
    let mut binder = Binder {
        error: None,
        path: Vec::new(),
    };
    let mut bound = Map::new();
    match json {
        Json::Null => {}
        Json::Obj(fields) => binder.fields(fields, shape, &mut bound),
        other => {
            let (kind, package, name) = (other.kind(), shape.package, shape.name);
            return Err(format!(
                "json: cannot unmarshal {kind} into Go value of type {package}.{name}"
            ));
        }
    }
    binder.error.map_or(Ok(bound), Err)
}

struct Binder {
    error: Option<String>,
    path: Vec<&'static str>,
}

impl Binder {
    fn fields(&mut self, fields: &[(String, Json)], shape: &'static Struct, into: &mut Bound) {
        for (key, json) in fields {
            let exact = shape.fields.iter().find(|(name, _)| name == key);
            let found = exact.or_else(|| shape.fields.iter().find(|(name, _)| folds(name, key)));
            let Some((name, ty)) = found else { continue };
            self.path.push(name);
            let before = into.get(*name).cloned();
            if let Some(value) = self.value(json, ty, shape.name, before) {
                into.insert((*name).to_owned(), value);
            }
            self.path.pop();
        }
    }

    /// The value for a field; `None` leaves what was there.
    fn value(
        &mut self,
        json: &Json,
        ty: &'static Ty,
        owner: &str,
        before: Option<Value>,
    ) -> Option<Value> {
        if *json == Json::Null && !matches!(ty, Ty::Any | Ty::Custom(_)) {
            return None;
        }
        match (ty, json) {
            (Ty::Custom(check), _) => return self.custom(*check, json),
            (Ty::Str, Json::Str(_)) | (Ty::Bool, Json::Bool(_)) | (Ty::Any, _) => {
                return Some(json.to_value());
            }
            (Ty::Int(name), Json::Num(n)) => {
                if n.parse::<i64>().is_ok() {
                    return Some(json.to_value());
                }
                self.mismatch(&format!("number {n}"), owner, name);
                return None;
            }
            (Ty::Float(name), Json::Num(n)) => {
                if n.parse::<f64>().is_ok_and(f64::is_finite) {
                    return Some(json.to_value());
                }
                self.mismatch(&format!("number {n}"), owner, name);
                return None;
            }
            (Ty::Bytes, Json::Str(text)) => return self.bytes(text),
            (Ty::List(_, item), Json::Arr(items)) => {
                let list = items
                    .iter()
                    .map(|json| self.value(json, item, owner, None).unwrap_or(Value::Null));
                return Some(Value::Array(list.collect()));
            }
            (Ty::Map(_, item), Json::Obj(fields)) => {
                let mut map = Map::new();
                for (key, json) in fields {
                    let value = self.value(json, item, owner, None).unwrap_or(Value::Null);
                    map.insert(key.clone(), value);
                }
                return Some(Value::Object(map));
            }
            (Ty::Struct(shape), Json::Obj(fields)) => {
                let mut inner = match before {
                    Some(Value::Object(map)) => map,
                    _ => Map::new(),
                };
                self.fields(fields, shape, &mut inner);
                return Some(Value::Object(inner));
            }
            _ => {}
        }
        self.mismatch(json.kind(), owner, &ty.go_name());
        None
    }

    fn custom(&mut self, check: fn(&Json) -> Result<Value, String>, json: &Json) -> Option<Value> {
        match check(json) {
            Ok(Value::Null) => None,
            Ok(value) => Some(value),
            Err(text) => {
                self.error.get_or_insert(text);
                None
            }
        }
    }

    fn bytes(&mut self, text: &str) -> Option<Value> {
        match decoded_len(text) {
            Ok(n) => Some(n.into()),
            Err(at) => {
                self.error
                    .get_or_insert(format!("illegal base64 data at input byte {at}"));
                None
            }
        }
    }

    fn mismatch(&mut self, kind: &str, owner: &str, ty: &str) {
        let path = self.path.join(".");
        let text = format!(
            "json: cannot unmarshal {kind} into Go struct field {owner}.{path} of type {ty}"
        );
        self.error.get_or_insert(text);
    }
}

/// Whether Go takes a key for a field of another case.
fn folds(name: &str, key: &str) -> bool {
    name.len() == key.len() && name.eq_ignore_ascii_case(key)
        || key.chars().any(|c| matches!(c, '\u{212a}' | '\u{17f}'))
            && name.eq_ignore_ascii_case(&key.replace('\u{212a}', "k").replace('\u{17f}', "s"))
}

/// How many bytes a base64 text stands for, or where Go stops understanding it.
fn decoded_len(text: &str) -> Result<usize, usize> {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let (mut digits, mut quantum_at) = (0_usize, 0);
    let mut bytes = text
        .bytes()
        .enumerate()
        .filter(|(_, b)| !matches!(b, b'\r' | b'\n'));
    while let Some((at, b)) = bytes.next() {
        if digits.is_multiple_of(4) {
            quantum_at = at;
        }
        if is_digit(b) {
            digits += 1;
            continue;
        }
        let needed = match digits % 4 {
            2 if b == b'=' => 1,
            3 if b == b'=' => 0,
            _ => return Err(at),
        };
        for _ in 0..needed {
            match bytes.next() {
                Some((_, b'=')) => {}
                Some((at, _)) => return Err(at),
                None => return Err(text.len()),
            }
        }
        return bytes.next().map_or(Ok(digits * 3 / 4), |(at, _)| Err(at));
    }
    if digits.is_multiple_of(4) {
        Ok(digits / 4 * 3)
    } else {
        Err(quantum_at)
    }
}
