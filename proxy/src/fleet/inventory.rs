//! What a node said of itself: the entries of `/api/tags` and `/api/ps`, kept as it wrote them.

use aivonx_shared::model_name::ModelKey;
use chrono::{DateTime, FixedOffset};
use serde_json::{Map, Value};

/// One entry of a node's list, its fields in the node's own order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    /// The identity its `name` normalises to.
    pub(crate) key: ModelKey,
    /// The entry as the node wrote it.
    pub(crate) entry: Map<String, Value>,
    /// `modified_at` of tags or `expires_at` of ps, as an instant.
    pub(crate) instant: Option<DateTime<FixedOffset>>,
}

impl Listed {
    /// The manifest's digest; equal digests are one model under two names.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.entry.get("digest")?.as_str()
    }

    /// Whether it is a cloud model that the node only passes on (ollama-api.md §5.6).
    pub(crate) fn is_stub(&self) -> bool {
        let host = self.entry.get("remote_host").and_then(Value::as_str);
        host.is_some_and(|host| !host.is_empty())
    }
}

/// Reads `{"models": […]}`; entries without a usable name are left out. `instant` names the
/// entry's time. `None` where the body is no such list.
pub(crate) fn parse_list(body: &[u8], instant: &str) -> Option<Vec<Listed>> {
    let Value::Object(mut root) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    let items = match root.remove("models")? {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => return None,
    };
    let listed = items.into_iter().filter_map(|item| {
        let Value::Object(entry) = item else {
            return None;
        };
        let name = entry.get("name").or_else(|| entry.get("model"))?.as_str()?;
        let key = ModelKey::parse(name).ok()?;
        let instant = entry.get(instant).and_then(Value::as_str);
        let instant = instant.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        Some(Listed {
            key,
            entry,
            instant,
        })
    });
    Some(listed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_what_has_no_name_is_left_out() {
        let body = br#"{"models":[{"name":"Tiny:latest","digest":"d","modified_at":"2026-08-20T09:12:44.1+08:00"},{"x":1}]}"#;
        let list = parse_list(body, "modified_at").unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].key.display(), "tiny:latest");
        assert_eq!(list[0].digest(), Some("d"));
        assert_eq!(list[0].instant.unwrap().timestamp(), 1_787_188_364);
        assert_eq!(parse_list(b"{\"models\":null}", "x"), Some(Vec::new()));
        assert_eq!(parse_list(b"[]", "x"), None);
        assert_eq!(parse_list(b"<html>", "x"), None);
    }
}
