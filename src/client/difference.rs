//! The difference that a fleet document makes, for people to read before they say yes.

use std::fmt::Write as _;

use serde_json::Value;

use super::output::clean;

/// Lines: `+` comes, `~` becomes another, `-` goes. Empty where nothing changes.
pub(super) fn lines(difference: &Value) -> String {
    let mut out = String::new();
    for (kinds, kind) in [("nodes", "node"), ("keys", "key")] {
        for (change, sign) in [("added", '+'), ("changed", '~'), ("removed", '-')] {
            let entries = difference[kinds][change].as_array();
            for entry in entries.into_iter().flatten() {
                let name = clean(entry["name"].as_str().unwrap_or_default());
                line(&mut out, &format!("{sign} {kind} {name}"));
                if sign != '-' {
                    fields(&mut out, &entry["fields"], "    ");
                }
            }
        }
    }
    fields(&mut out, &difference["settings"], "~ setting ");
    out
}

fn fields(out: &mut String, fields: &Value, before: &str) {
    for (name, change) in fields.as_object().into_iter().flatten() {
        let (was, becomes) = (shown(&change["before"]), shown(&change["after"]));
        let name = clean(name);
        if change["before"].is_null() {
            line(out, &format!("{before}{name}: {becomes}"));
        } else {
            line(out, &format!("{before}{name}: {was} -> {becomes}"));
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(default)".to_owned(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{text}"); // a String takes all that is written
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_changes_and_goes_has_its_line() {
        let difference = json!({
            "nodes": {
                "added": [{"name": "gpu-3", "fields": {"url": {"before": null, "after": "http://h:1"}}}],
                "changed": [{"name": "gpu-1", "fields": {
                    "labels.zone": {"before": "a", "after": null}, "weight": {"before": 1, "after": 3},
                }}],
                "removed": [{"name": "gpu-2\n", "fields": {"url": {"before": "http://h:2", "after": null}}}],
            },
            "keys": {"added": [], "changed": [], "removed": [{"name": "ci", "fields": {}}]},
            "settings": {"strategy": {"before": "least_active", "after": "lowest_latency"}},
        });
        assert_eq!(
            lines(&difference),
            "+ node gpu-3\n    url: http://h:1\n\
             ~ node gpu-1\n    labels.zone: a -> (default)\n    weight: 1 -> 3\n\
             - node gpu-2?\n\
             - key ci\n\
             ~ setting strategy: least_active -> lowest_latency\n"
        );
        assert_eq!(lines(&json!({"nodes": {}, "settings": {}})), "");
    }
}
