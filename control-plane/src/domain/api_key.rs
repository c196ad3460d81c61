//! API keys of the data plane. The key itself is made and shown once by `auth`; here is only what it
//! may do, judged as data planes do.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;

use super::read::{is_plain, nullable};
use super::{Invalid, fleet};

/// Longest note, characters.
const LONGEST_NOTE: usize = 500;

/// What is said of a key to create or change it. What is absent stays, or is the default.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyDraft {
    /// Unique; shown in metrics and logs: letters, digits, `-`, `_`, `.`.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,63}$")]
    pub key_id: Option<String>,
    /// For operators.
    #[schema(max_length = 500)]
    pub note: Option<String>,
    /// `infer`, `manage`.
    #[schema(min_items = 1)]
    pub scopes: Option<Vec<String>>,
    /// Patterns of models it may use; empty: all.
    pub models: Option<Vec<String>>,
    /// Requests over time, as `600/m`.
    #[serde(default, deserialize_with = "nullable")]
    pub rate: Option<Option<String>>,
    /// Requests that may come at once.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(minimum = 1)]
    pub burst: Option<Option<i32>>,
    /// Requests open at the same time.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(minimum = 1)]
    pub max_concurrent: Option<Option<i32>>,
    /// From then on it is refused.
    #[serde(default, deserialize_with = "nullable")]
    pub expires_at: Option<Option<DateTime<Utc>>>,
    /// The header in which its holder names its users.
    #[serde(default, deserialize_with = "nullable")]
    pub user_header: Option<Option<String>>,
    /// `false`: as if it were not there.
    pub enabled: Option<bool>,
}

/// A valid key: everything of it that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// Unique.
    pub key_id: String,
    /// For operators.
    pub note: String,
    /// `infer`, `manage`.
    pub scopes: Vec<String>,
    /// Patterns; empty: all.
    pub models: Vec<String>,
    /// As `600/m`.
    pub rate: Option<String>,
    /// At once.
    pub burst: Option<i32>,
    /// At the same time.
    pub max_concurrent: Option<i32>,
    /// From then on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// The header in which its holder names its users.
    pub user_header: Option<String>,
    /// Whether the fleet document holds it.
    pub enabled: bool,
}

impl ApiKeyDraft {
    /// A new key. It needs an id.
    pub fn create(self) -> Result<NewApiKey, Invalid> {
        if self.key_id.is_none() {
            return Err(Invalid::of("key_id", "is required"));
        }
        self.patch(NewApiKey {
            key_id: String::new(),
            note: String::new(),
            scopes: vec!["infer".to_owned()],
            models: Vec::new(),
            rate: None,
            burst: None,
            max_concurrent: None,
            expires_at: None,
            user_header: None,
            enabled: true,
        })
    }

    /// PUT and PATCH: what is absent stays.
    pub fn patch(self, mut key: NewApiKey) -> Result<NewApiKey, Invalid> {
        let mut invalid = Invalid::default();
        set(&mut key.key_id, self.key_id);
        set(&mut key.note, self.note);
        set(&mut key.scopes, self.scopes);
        set(&mut key.models, self.models);
        set(&mut key.rate, self.rate);
        set(&mut key.burst, self.burst);
        set(&mut key.max_concurrent, self.max_concurrent);
        set(&mut key.expires_at, self.expires_at);
        set(&mut key.user_header, self.user_header);
        set(&mut key.enabled, self.enabled);
        if key.note.chars().count() > LONGEST_NOTE || !is_plain(&key.note) {
            let words = "must be at most 500 characters, none of them a control character";
            invalid.add("note", words);
        }
        judge(&key, &mut invalid);
        invalid.or_ok()?;
        Ok(key)
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn judge(key: &NewApiKey, invalid: &mut Invalid) {
    let entry = fleet::key(key, &"0".repeat(64));
    let mut found = Invalid::default();
    fleet::judge(
        &json!({"nodes": [], "keys": [entry]}),
        "keys[0]",
        &mut found,
    );
    for (field, problems) in found.fields {
        let field = match field.as_str() {
            "id" => "key_id",
            "expires" => "expires_at",
            field => field,
        };
        for problem in problems {
            invalid.add(field, problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::draft;

    #[test]
    fn a_key_is_judged_as_data_planes_do() {
        let body = json!({
            "key_id": "anonymous", "scopes": ["root"], "models": ["a b"], "rate": "fast", "burst": 0,
            "max_concurrent": -1, "user_header": "Host", "note": "a\u{7}"
        });
        let invalid = draft::<ApiKeyDraft>(body, &[])
            .unwrap()
            .create()
            .unwrap_err();
        let fields: Vec<_> = invalid.fields.keys().map(String::as_str).collect();
        let expected = [
            "burst",
            "key_id",
            "max_concurrent",
            "models",
            "note",
            "rate",
            "scopes",
            "user_header",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_is_absent_stays_and_null_removes() {
        let body =
            json!({"key_id": "a", "rate": "60/m", "expires_at": "2027-01-31T12:00:00+01:00"});
        let key = draft::<ApiKeyDraft>(body, &[]).unwrap().create().unwrap();
        assert_eq!(key.scopes, ["infer"]);
        let patch = draft::<ApiKeyDraft>(json!({"rate": null, "enabled": false}), &[]).unwrap();
        let changed = patch.patch(key.clone()).unwrap();
        assert_eq!((changed.rate, changed.enabled), (None, false));
        assert_eq!(changed.expires_at, key.expires_at);
    }
}
