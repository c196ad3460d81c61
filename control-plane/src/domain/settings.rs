//! Settings of the whole fleet: the parts of the fleet document that are neither nodes nor keys, each
//! stored by itself.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::read::WHOLE;
use super::{Invalid, fleet};

/// The settings there are, as the fleet document names them.
pub const SETTING_KEYS: [&str; 8] = [
    "aliases",
    "anonymous",
    "cloud",
    "keep_alive",
    "on_revoke",
    "pull",
    "strategy",
    "usage",
];

/// What is set; what is not has the document's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, Value>);

impl Settings {
    /// What is set for a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All that is set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The strategy in force.
    pub fn strategy(&self) -> &str {
        self.get("strategy")
            .and_then(Value::as_str)
            .unwrap_or("least_active")
    }

    /// Names of networks in `anonymous`: no key may have one of them as its id.
    pub fn network_ids(&self) -> impl Iterator<Item = &str> {
        let networks = self.get("anonymous").and_then(Value::as_array);
        let networks = networks.into_iter().flatten();
        networks.filter_map(|network| network.get("id")?.as_str())
    }

    /// Sets a key; `None` and `null` fall back to the default.
    pub(crate) fn set(&mut self, key: String, value: Option<Value>) {
        match value {
            None | Some(Value::Null) => self.0.remove(&key),
            Some(value) => self.0.insert(key, value),
        };
    }
}

/// A valid change of settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SettingsPatch(BTreeMap<String, Option<Value>>);

impl SettingsPatch {
    /// Reads `{key: value, …}`; `null` falls back to the default, and `read_only` is passed over.
    pub fn parse(body: Value, read_only: &[&str]) -> Result<Self, Invalid> {
        let Value::Object(fields) = body else {
            return Err(Invalid::of(WHOLE, "must be an object"));
        };
        let mut invalid = Invalid::default();
        let mut patch = BTreeMap::new();
        for (key, value) in fields {
            if read_only.contains(&key.as_str()) {
                continue;
            }
            if !SETTING_KEYS.contains(&key.as_str()) {
                invalid.add(&key, "unknown field");
            } else if value.is_null() {
                patch.insert(key, None);
            } else {
                fleet::judge(&json!({"nodes": [], &key: value}), "", &mut invalid);
                patch.insert(key, Some(value));
            }
        }
        invalid.or_ok()?;
        Ok(Self(patch))
    }

    /// Another strategy and nothing else.
    pub fn strategy(strategy: &str) -> Result<Self, Invalid> {
        Self::parse(json!({"strategy": strategy}), &[])
    }

    /// What makes these settings of any others.
    pub fn whole(settings: &Settings) -> Self {
        let whole = SETTING_KEYS.map(|key| (key.to_owned(), settings.get(key).cloned()));
        Self(whole.into())
    }

    /// What is to be set; `None` falls back to the default.
    pub(crate) fn into_parts(self) -> BTreeMap<String, Option<Value>> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_judged_as_data_planes_do() {
        let body = json!({
            "strategy": "fastest", "pull": {"at_once": 0}, "aliases": {"a": []}, "colour": "red", "id": 1
        });
        let invalid = SettingsPatch::parse(body, &["id"]).unwrap_err();
        let fields: Vec<_> = invalid.fields.keys().map(String::as_str).collect();
        assert_eq!(fields, ["aliases.a", "colour", "pull.at_once", "strategy"]);
    }

    #[test]
    fn null_falls_back_to_the_default() {
        let mut settings = Settings::default();
        assert_eq!(settings.strategy(), "least_active");
        let patch = SettingsPatch::parse(json!({"strategy": "lowest_latency"}), &[]).unwrap();
        for (key, value) in patch.into_parts() {
            settings.set(key, value);
        }
        assert_eq!(settings.strategy(), "lowest_latency");
        let patch = SettingsPatch::parse(json!({"strategy": null}), &[]).unwrap();
        for (key, value) in patch.into_parts() {
            settings.set(key, value);
        }
        assert_eq!(settings, Settings::default());
    }
}
