//! `aivonx key`. A new key stands alone on standard output, so that `KEY=$(aivonx key create ci)` takes it.

use std::time::SystemTime;

use http::Method;
use serde_json::{Map, Value, json};

use super::api::{Api, by_id};
use super::args::{KeyArgs, KeyCommand, KeyFields, Removal, parse_span};
use super::connect;
use super::failure::{Done, Failure};
use super::output::{self, Column, cell, instant};
use super::terminal::confirm;
use crate::escape::escaped;

const KEYS: &str = "/api/proxy/keys";

const COLUMNS: [Column; 9] = [
    ("ID", |key| cell(key, "id")),
    ("KEY ID", |key| cell(key, "key_id")),
    ("SCOPES", |key| cell(key, "scopes")),
    ("MODELS", |key| cell(key, "models")),
    ("RATE", |key| cell(key, "rate")),
    ("CONCURRENT", |key| cell(key, "max_concurrent")),
    ("ENABLED", |key| cell(key, "enabled")),
    ("EXPIRES", |key| instant(key, "expires_at")),
    ("NOTE", |key| cell(key, "note")),
];

/// Does what is said of keys.
pub(super) fn run(args: &KeyArgs) -> Done {
    let (api, json) = (connect(&args.shared.server)?, args.shared.json);
    match &args.command {
        KeyCommand::List => {
            let nothing = "there are no keys; `aivonx key create` makes one";
            output::list(&api.list(KEYS)?, &COLUMNS, json, nothing)
        }
        KeyCommand::Create { id, fields } => {
            let mut body = draft(fields, SystemTime::now())?;
            body.insert("key_id".to_owned(), json!(id));
            once(&api.send(Method::POST, KEYS, Some(&body.into()))?, json)
        }
        KeyCommand::Rotate { id, yes } => {
            let key = find(&api, id)?;
            let what = format!("put another key in the place of {}", cell(&key, "key_id"));
            confirm(&what, *yes)?;
            let path = format!("{}/rotate", path(&key));
            once(&api.send(Method::POST, &path, None)?, json)
        }
        KeyCommand::Remove(removal) => remove(&api, removal),
    }
}

fn draft(fields: &KeyFields, now: SystemTime) -> Result<Map<String, Value>, Failure> {
    let expires = fields.expires.as_deref();
    let expires = expires.map(|text| instant_of(text, now)).transpose()?;
    let said = [
        ("note", json!(fields.note)),
        ("scopes", json!(fields.scope)),
        ("models", json!(fields.models)),
        ("rate", json!(fields.rate)),
        ("burst", json!(fields.burst)),
        ("max_concurrent", json!(fields.max_concurrent)),
        ("expires_at", json!(expires)),
        ("user_header", json!(fields.user_header)),
    ];
    let said = said.into_iter().filter(|(_, value)| !value.is_null());
    Ok(said.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A day, an instant, or a time from now on, as an instant. What else it is the API judges.
fn instant_of(text: &str, now: SystemTime) -> Result<String, Failure> {
    if humantime::parse_duration(text).is_ok() {
        let span = parse_span(text)
            .map_err(|problem| Failure::Usage(format!("--expires {text}: {problem}")))?;
        return Ok(humantime::format_rfc3339_seconds(now + span).to_string());
    }
    if text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return Ok(format!("{text}T00:00:00Z"));
    }
    Ok(text.to_owned())
}

fn once(made: &Value, json: bool) -> Done {
    if json {
        return output::show_json(made);
    }
    let key = made["key"].as_str().ok_or_else(|| {
        Failure::Protocol("the answer holds no key; look at `aivonx key list`".to_owned())
    })?;
    output::print(&format!("{key}\n"))?;
    let id = cell(made, "key_id");
    output::note(&format!(
        "this is the key of {id}; it cannot be shown again"
    ));
    Ok(())
}

fn remove(api: &Api, removal: &Removal) -> Done {
    for name in &removal.names {
        let key = find(api, name)?;
        let id = cell(&key, "key_id");
        confirm(&format!("revoke the key {id}"), removal.yes)?;
        let version = key["version"].as_i64();
        api.change(Method::DELETE, &path(&key), None, version)?;
        output::note(&format!("{id} is revoked"));
    }
    Ok(())
}

/// The key of an id as metrics name it, or of its number.
fn find(api: &Api, name: &str) -> Result<Value, Failure> {
    let some = api.list(&format!("{KEYS}?key_id={}", escaped(name)))?;
    if let Some(key) = some.iter().find(|key| key["key_id"] == name) {
        return Ok(key.clone());
    }
    let all = api.list(KEYS)?;
    by_id(&all, name)
        .cloned()
        .ok_or_else(|| Failure::missing("key", name, "aivonx key list"))
}

fn path(key: &Value) -> String {
    format!("{KEYS}/{}", key["id"])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn an_expiry_is_a_day_an_instant_or_a_span() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (text, instant) in [
            ("2027-01-31", "2027-01-31T00:00:00Z"),
            ("2027-01-31T12:00:00+01:00", "2027-01-31T12:00:00+01:00"),
            ("1d", "2023-11-15T22:13:20Z"),
            ("soon", "soon"),
        ] {
            assert_eq!(instant_of(text, now).unwrap(), instant);
        }
        for text in ["0s", "20000y"] {
            assert_eq!(instant_of(text, now).unwrap_err().code(), 2, "{text}");
        }
    }

    #[test]
    fn what_is_not_said_is_not_sent() {
        let fields = KeyFields {
            rate: Some("60/m".into()),
            models: Some(vec!["a".into(), "b".into()]),
            ..KeyFields::default()
        };
        let body = Value::from(draft(&fields, UNIX_EPOCH).unwrap());
        assert_eq!(body, json!({"rate": "60/m", "models": ["a", "b"]}));
    }
}
