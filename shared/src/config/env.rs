//! Environment variables over the file: `AIVONX_PROXY__TIMEOUTS__CONNECT=1s` sets
//! `proxy.timeouts.connect`.

use serde_yaml::{Mapping, Value};

/// The variables that set a key of a configuration, as (path, text), sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(Vec<(Vec<String>, String)>);

/// Picks the overrides for `section` (as `PROXY`) out of an environment.
pub fn overrides_from(
    section: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Overrides {
    let prefix = format!("AIVONX_{section}__");
    let mut list: Vec<_> = variables
        .filter_map(|(name, value)| {
            let rest = name.strip_prefix(&prefix)?;
            let mut path = vec![section.to_lowercase()];
            path.extend(rest.split("__").map(str::to_lowercase));
            Some((path, value))
        })
        .collect();
    list.sort();
    Overrides(list)
}

impl Overrides {
    /// Sets each override in `root`, making the mappings on its way. The text is read as YAML, so
    /// that `4` is a number and `[a, b]` a list.
    pub(crate) fn apply(&self, root: &mut Value) {
        for (path, text) in &self.0 {
            let value = serde_yaml::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
            set(root, path, value);
        }
    }
}

fn set(at: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *at = value;
        return;
    };
    if !at.is_mapping() {
        *at = Value::Mapping(Mapping::new());
    }
    if let Value::Mapping(map) = at {
        let slot = map
            .entry(Value::String(first.clone()))
            .or_insert(Value::Null);
        set(slot, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_sets_a_nested_key() {
        let vars = [
            (
                "AIVONX_PROXY__TIMEOUTS__CONNECT".to_owned(),
                "1s".to_owned(),
            ),
            ("OTHER".to_owned(), "x".to_owned()),
        ];
        let mut root: Value = serde_yaml::from_str("proxy: {threads: 2}").unwrap();
        overrides_from("PROXY", vars.into_iter()).apply(&mut root);
        assert_eq!(root["proxy"]["timeouts"]["connect"], Value::from("1s"));
        assert_eq!(root["proxy"]["threads"], Value::from(2));
    }
}
