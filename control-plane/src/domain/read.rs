//! JSON bodies into drafts, with every problem named by its field.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Invalid;

/// The field of problems that belong to no field, as the predecessor's framework calls it.
pub(super) const WHOLE: &str = "non_field_errors";

/// Reads a draft. All fields of a draft are optional and unknown ones are refused (serde's
/// `deny_unknown_fields`), so that each can be judged by itself; `read_only` names those that are
/// passed over, because who changes what a GET gave sends them back.
pub fn draft<T: DeserializeOwned>(body: Value, read_only: &[&str]) -> Result<T, Invalid> {
    let Value::Object(mut fields) = body else {
        return Err(Invalid::of(WHOLE, "must be an object"));
    };
    fields.retain(|name, _| !read_only.contains(&name.as_str()));
    match serde_json::from_value(Value::Object(fields.clone())) {
        Ok(draft) => Ok(draft),
        Err(error) => Err(by_field::<T>(fields, &error)),
    }
}

fn by_field<T: DeserializeOwned>(fields: Map<String, Value>, error: &serde_json::Error) -> Invalid {
    let mut invalid = Invalid::default();
    for (name, value) in fields {
        let alone = Map::from_iter([(name.clone(), value)]);
        if let Err(error) = serde_json::from_value::<T>(Value::Object(alone)) {
            invalid.add(&name, words(&error));
        }
    }
    if invalid.fields.is_empty() {
        invalid.add(WHOLE, words(error));
    }
    invalid
}

/// Serde's words without the value, which may be a secret, and without a position in a text that the
/// caller never saw.
fn words(error: &serde_json::Error) -> String {
    let words = error.to_string();
    if words.starts_with("unknown field") {
        return "unknown field".to_owned();
    }
    match words.rsplit_once("expected ") {
        Some((_, wanted)) => format!("must be {wanted}"),
        None => "is not of the right kind".to_owned(),
    }
}

/// For fields in which `null` means something else than absence.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things"
)]
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}

/// Whether a text may be shown and published: no control characters. YAML, which the fleet document is
/// read as, has no place for them.
pub(super) fn is_plain(text: &str) -> bool {
    !text.chars().any(|letter| {
        letter.is_control()
            || matches!(
                letter,
                '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{2029}'
            )
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Draft {
        name: Option<String>,
        port: Option<u16>,
    }

    #[test]
    fn every_problem_is_named_by_its_field_and_no_value_repeated() {
        let body = json!({"name": 3, "port": "secret", "id": 1, "colour": "red"});
        let invalid = draft::<Draft>(body, &["id"]).unwrap_err();
        assert_eq!(
            serde_json::to_value(&invalid.fields).unwrap(),
            json!({"colour": ["unknown field"], "name": ["must be a string"], "port": ["must be u16"]})
        );
    }

    #[test]
    fn only_an_object_is_a_draft() {
        let invalid = draft::<Draft>(json!([1]), &[]).unwrap_err();
        assert_eq!(invalid.to_string(), "non_field_errors: must be an object");
        assert!(draft::<Draft>(json!({"id": 1}), &["id"]).is_ok());
    }
}
