//! What is true of every operation, said once: that a login is needed, how errors look, what a header
//! holds. The handlers tell the rest; this looks at what they told.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The keys of a path's item that are methods.
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "patch", "head", "options"];
/// A version (`"7"`), as `If-Match` names it.
const VERSION: &str = r#"^(\*|(W/)?"-?[0-9]{1,18}")$"#;
/// A revision of the fleet (`"1764000000.7"`).
const REVISION: &str = r#"^(\*|(W/)?"[0-9]{1,18}\.[0-9]{1,18}")$"#;

/// Fields without which a body is refused. A draft serves several operations, and each of its fields may be
/// absent in some of them.
const NEEDED: [(&str, &str, &[&str]); 7] = [
    ("post", "/api/proxy/nodes", &["name"]),
    ("put", "/api/proxy/nodes/{id}", &["name"]),
    ("post", "/api/proxy/keys", &["key_id"]),
    ("post", "/api/proxy/jobs", &["model"]),
    ("post", "/api/proxy/pull", &["model"]),
    ("post", "/api/account/users", &["name", "password"]),
    ("post", "/api/account/tokens", &["name"]),
];

/// Which methods a path has, by the pattern that the routes give it.
pub(super) type Methods = BTreeMap<String, Vec<String>>;

/// Adds to a document what holds for all of it.
pub(super) fn complete(api: &mut Value) {
    api["components"]["schemas"]["Problem"] = problem();
    for (path, item) in fields(&mut api["paths"]) {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if METHODS.contains(&method.as_str()) {
                complete_operation(path, method, operation);
            }
        }
    }
}

/// The methods of each path of a document.
pub(super) fn methods(api: &Value) -> Methods {
    let paths = api["paths"].as_object().into_iter().flatten();
    let each = paths.map(|(path, item)| {
        let names = item.as_object().into_iter().flatten().map(|(name, _)| name);
        let names = names.filter(|name| METHODS.contains(&name.as_str()));
        (
            path.clone(),
            names.map(|name| name.to_uppercase()).collect(),
        )
    });
    each.collect()
}

fn fields(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flatten()
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    let has_body = operation.get("requestBody").is_some();
    let needs_login = operation["security"]
        .as_array()
        .is_some_and(|ways| !ways.is_empty());
    let mut parameters = operation["parameters"].take();
    for parameter in parameters.as_array_mut().into_iter().flatten() {
        complete_parameter(path, parameter);
    }
    let listed = parameters.as_array().cloned().unwrap_or_default();
    let is = |key: &str, value: &str| listed.iter().any(|one| one[key] == value);
    let mut more = vec![(
        503,
        "The database or a data plane does not answer; nothing was changed",
    )];
    if has_body || is("in", "query") || is("in", "header") {
        more.push((400, "What is wrong"));
    }
    if needs_login {
        more.push((401, "Nobody is logged in"));
        more.push((
            403,
            "The role does not allow it, or a cookie came without its CSRF token",
        ));
    }
    if has_body {
        more.push((413, "Longer than 1 MiB"));
        more.push((415, "Not of a type that is taken here"));
    }
    if is("name", "If-Match") {
        more.push((412, "It has another version"));
    }
    if method != "get" {
        more.push((507, "The database's disk is full; nothing was changed"));
    }
    match parameters {
        Value::Null => {
            operation
                .as_object_mut()
                .map(|map| map.remove("parameters"));
        }
        parameters => operation["parameters"] = parameters,
    }
    if has_body {
        // an empty body is one without fields: a change of nothing
        let is_change = method == "patch" || (method == "put" && path.ends_with("/config"));
        operation["requestBody"]["required"] = json!(!is_change);
        let needed = NEEDED.iter().find(|one| (one.0, one.1) == (method, path));
        if let Some((.., names)) = needed {
            let schema = &mut operation["requestBody"]["content"]["application/json"]["schema"];
            *schema = json!({"allOf": [schema.take(), with_fields(names)]});
        }
    }
    complete_responses(&mut operation["responses"], &more);
}

/// An object that has these texts.
fn with_fields(names: &[&str]) -> Value {
    let text = |name: &&str| {
        (
            (*name).to_owned(),
            json!({"type": "string", "minLength": 1}),
        )
    };
    let properties: Map<_, _> = names.iter().map(text).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// Parameters are texts: none of them is null. Those that are passed over where they make no sense say so.
fn complete_parameter(path: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let schema = &mut parameter["schema"];
    without_null(schema);
    match name.as_str() {
        "If-Match" => {
            let is_fleet = path.starts_with("/api/proxy/fleet");
            let pattern = if is_fleet { REVISION } else { VERSION };
            *schema = json!({"type": "string", "pattern": pattern});
        }
        "limit" | "offset" => {
            *schema = json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]});
        }
        _ => {}
    }
}

fn without_null(schema: &mut Value) {
    if let Some(kinds) = schema["type"].as_array() {
        let kinds: Vec<_> = kinds
            .iter()
            .filter(|kind| *kind != "null")
            .cloned()
            .collect();
        schema["type"] = match kinds.as_slice() {
            [one] => one.clone(),
            _ => Value::Array(kinds),
        };
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
        if let [one] = choices.as_slice() {
            *schema = one.clone();
        }
    }
}

fn complete_responses(responses: &mut Value, more: &[(u16, &str)]) {
    for (status, words) in more {
        let place = &mut responses[status.to_string()];
        if place.is_null() {
            *place = json!({ "description": words });
        }
    }
    for (status, response) in fields(responses) {
        if status.starts_with(['4', '5']) && response.get("content").is_none() {
            let schema = json!({"$ref": "#/components/schemas/Problem"});
            response["content"] = json!({"application/problem+json": {"schema": schema}});
        }
    }
    if let Some(map) = responses.as_object_mut() {
        let sorted: BTreeMap<_, _> = std::mem::take(map).into_iter().collect();
        *map = sorted.into_iter().collect::<Map<_, _>>();
    }
}

/// RFC 9457, with what the predecessor's callers look for.
fn problem() -> Value {
    let text = |words: &str| json!({"type": "string", "description": words});
    json!({
        "type": "object",
        "description": "What is wrong (RFC 9457). A field that is not valid stands at the top, too, by its \
                        name, as the predecessor's callers expect.",
        "required": ["type", "title", "status", "detail", "error"],
        "properties": {
            "type": text("`about:blank`: the status says which kind of problem it is"),
            "title": text("The kind of problem, in a few words"),
            "status": {"type": "integer", "format": "int32", "description": "The status again"},
            "detail": text("What is wrong, and what to change"),
            "error": text("The same, for callers that look for it here"),
            "errors": {
                "type": "object",
                "description": "What is wrong with each field",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_told_stays_and_the_rest_is_added() {
        let mut api = json!({"components": {"schemas": {}}, "paths": {"/a/{id}": {"patch": {
            "security": [{"bearer": []}],
            "parameters": [
                {"name": "If-Match", "in": "header", "schema": {"type": ["string", "null"]}},
                {"name": "role", "in": "query", "schema": {"oneOf": [{"type": "null"}, {"$ref": "#/r"}]}},
            ],
            "requestBody": {"required": true, "content": {}},
            "responses": {"200": {"description": "Done"}, "403": {"description": "For admins"}},
        }}}});
        complete(&mut api);
        let told = &api["paths"]["/a/{id}"]["patch"];
        let statuses: Vec<_> = told["responses"].as_object().unwrap().keys().collect();
        assert_eq!(
            statuses,
            [
                "200", "400", "401", "403", "412", "413", "415", "503", "507"
            ]
        );
        assert_eq!(told["responses"]["403"]["description"], "For admins");
        assert_eq!(told["responses"]["200"].get("content"), None);
        assert_eq!(told["requestBody"]["required"], false);
        assert_eq!(told["parameters"][0]["schema"]["type"], "string");
        assert_eq!(told["parameters"][1]["schema"], json!({"$ref": "#/r"}));
        assert_eq!(methods(&api)["/a/{id}"], ["PATCH"]);
    }
}
