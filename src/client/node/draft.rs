//! What is said of a node, laid over what is there. The API takes lists and maps whole, so those that change in
//! part are sent with the rest of what they were.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::args::NodeFields;
use super::super::failure::Failure;
use super::super::terminal::read_file as read;

/// The body of a change; null for `present` begins anew.
pub(super) fn of(fields: &NodeFields, present: &Value) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
    if let Some(weight) = fields.weight {
        put("weight", weight.into());
    }
    if let Some(slots) = fields.slots {
        put("slots", slots.into());
    }
    if let Some(insecure) = fields.insecure_tls {
        put("insecure_tls", insecure.into());
    }
    if let Some(discover) = &fields.discover {
        put("discover", discover.clone().into());
    }
    if !fields.labels.is_empty() {
        put("labels", labels(&fields.labels, &present["labels"])?);
    }
    if fields.include.is_some() || fields.exclude.is_some() {
        put("models", models(fields, &present["models"]));
    }
    if fields.no_bearer_token {
        put("bearer_token", Value::Null);
    }
    if let Some(file) = &fields.bearer_token_file {
        put("bearer_token", read(file)?.trim().into());
    }
    if !fields.headers.is_empty() || !fields.no_headers.is_empty() {
        put("headers", headers(fields, &present["headers"])?);
    }
    if fields.tls_ca.is_some() || fields.tls_name.is_some() {
        put("tls", tls(fields, &present["tls"])?);
    }
    Ok(body)
}

fn labels(said: &[String], present: &Value) -> Result<Value, Failure> {
    let mut labels = present.as_object().cloned().unwrap_or_default();
    for text in said {
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => {
                labels.insert(key.to_owned(), value.into());
            }
            (None, Some(key)) => {
                labels.remove(key);
            }
            _ => {
                let words = format!("--label {text}: write KEY=VALUE, or KEY- to take one away");
                return Err(Failure::Usage(words));
            }
        }
    }
    Ok(labels.into())
}

fn models(fields: &NodeFields, present: &Value) -> Value {
    let list = |said: &Option<Vec<String>>, present: &Value| match said {
        Some(patterns) => {
            let patterns = patterns.iter().map(|pattern| pattern.trim());
            patterns.filter(|pattern| !pattern.is_empty()).collect()
        }
        None if present.is_null() => json!([]),
        None => present.clone(),
    };
    json!({
        "include": list(&fields.include, &present["include"]),
        "exclude": list(&fields.exclude, &present["exclude"]),
    })
}

/// Headers whose values are not shown keep them by a null.
fn headers(fields: &NodeFields, present: &Value) -> Result<Value, Failure> {
    let mut headers = present.as_object().cloned().unwrap_or_default();
    for name in &fields.no_headers {
        headers.retain(|present, _| !present.eq_ignore_ascii_case(name));
    }
    for text in &fields.headers {
        let Some((name, file)) = text.split_once('=') else {
            let words = format!("--header-file {text}: write NAME=FILE");
            return Err(Failure::Usage(words));
        };
        headers.retain(|present, _| !present.eq_ignore_ascii_case(name));
        let value = read(Path::new(file))?;
        headers.insert(name.to_owned(), value.trim().into());
    }
    Ok(headers.into())
}

fn tls(fields: &NodeFields, present: &Value) -> Result<Value, Failure> {
    let ca = match &fields.tls_ca {
        None => present["ca"].clone(),
        Some(file) if file.as_os_str().is_empty() => Value::Null,
        Some(file) => read(file)?.into(),
    };
    let server_name = match fields.tls_name.as_deref() {
        None => present["server_name"].clone(),
        Some("") => Value::Null,
        Some(name) => name.into(),
    };
    Ok(json!({"ca": ca, "server_name": server_name}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fields: &NodeFields, present: &Value) -> Value {
        of(fields, present).unwrap().into()
    }

    #[test]
    fn nothing_said_is_nothing_sent() {
        assert_eq!(body(&NodeFields::default(), &Value::Null), json!({}));
    }

    #[test]
    fn labels_and_patterns_are_laid_over_what_is_there() {
        let present = json!({
            "labels": {"zone": "a", "rack": "1"},
            "models": {"include": ["llama*"], "exclude": ["*70b"]},
        });
        let fields = NodeFields {
            labels: vec!["zone=b".into(), "rack-".into(), "new=x=y".into()],
            include: Some(vec![String::new()]),
            ..NodeFields::default()
        };
        assert_eq!(
            body(&fields, &present),
            json!({
                "labels": {"zone": "b", "new": "x=y"},
                "models": {"include": [], "exclude": ["*70b"]},
            })
        );
        let fields = NodeFields {
            exclude: Some(vec!["a".into(), " b ".into()]),
            ..NodeFields::default()
        };
        assert_eq!(
            body(&fields, &Value::Null),
            json!({"models": {"include": [], "exclude": ["a", "b"]}})
        );
        for wrong in ["zone", "=x"] {
            let fields = NodeFields {
                labels: vec![wrong.into()],
                ..NodeFields::default()
            };
            assert_eq!(of(&fields, &present).unwrap_err().code(), 2, "{wrong}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hush\n").unwrap();
        let present = json!({
            "headers": {"x-team": null, "x-old": null},
            "tls": {"ca": "PEM", "server_name": "n"},
        });
        let fields = NodeFields {
            bearer_token_file: Some(file.clone()),
            headers: vec![format!("X-New={}", file.display())],
            no_headers: vec!["X-Old".into()],
            tls_name: Some(String::new()),
            ..NodeFields::default()
        };
        assert_eq!(
            body(&fields, &present),
            json!({
                "bearer_token": "hush",
                "headers": {"x-team": null, "X-New": "hush"},
                "tls": {"ca": "PEM", "server_name": null},
            })
        );
        let missing = NodeFields {
            bearer_token_file: Some("/nowhere/secret".into()),
            ..NodeFields::default()
        };
        assert_eq!(of(&missing, &present).unwrap_err().code(), 66);
    }
}
