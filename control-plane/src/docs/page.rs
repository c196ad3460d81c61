//! `/redoc`: the API as one page to read, made from the `OpenAPI` document when the program starts. It
//! needs no script and nothing from elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1c2024;background:#fff}h2{margin-top:3rem;border-bottom:1px solid #d9dce1}details{margin:.4rem 0;\
border:1px solid #d9dce1;border-radius:6px;padding:.4rem .8rem}summary{cursor:pointer}code{font-family:\
ui-monospace,monospace;font-size:.9em}table{border-collapse:collapse;width:100%;margin:.6rem 0}td,th{text-align:\
left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-top:1px solid #eceef1}.m{display:inline-block;width:\
4.5rem;font-weight:600}nav a{margin-right:1rem}@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:\
#15181b}h2,details,td,th{border-color:#33383e}a{color:#8ab4f8}}";

/// Renders a document; texts in it are escaped.
pub(super) fn render(api: &Value) -> String {
    let mut page = String::new();
    let title = text(&api["info"]["title"]);
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\
         <h1>{title} <small>{}</small></h1><p>{}</p>\
         <p><a href=\"/api/schema\">OpenAPI document</a> · <a href=\"/swagger/\">try it out</a></p>",
        text(&api["info"]["version"]),
        prose(&api["info"]["description"]),
    );
    let groups = by_tag(api);
    page.push_str("<nav>");
    for tag in groups.keys() {
        let tag = escaped(tag);
        let _ = write!(page, "<a href=\"#{tag}\">{tag}</a>");
    }
    page.push_str("</nav>");
    for (tag, operations) in &groups {
        let tag = escaped(tag);
        let _ = write!(page, "<h2 id=\"{tag}\">{tag}</h2>");
        for (path, method, operation) in operations {
            render_operation(&mut page, path, method, operation);
        }
    }
    page.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in object(&api["components"]["schemas"]) {
        let name = escaped(name);
        let _ = write!(
            page,
            "<details id=\"schema-{name}\"><summary><code>{name}</code></summary>"
        );
        render_fields(&mut page, schema);
        page.push_str("</details>");
    }
    page.push_str("</body></html>");
    page
}

type Operation<'a> = (&'a str, &'a str, &'a Value);

fn by_tag(api: &Value) -> BTreeMap<&str, Vec<Operation<'_>>> {
    let mut groups: BTreeMap<&str, Vec<Operation<'_>>> = BTreeMap::new();
    for (path, item) in object(&api["paths"]) {
        for (method, operation) in object(item) {
            let tag = operation["tags"][0].as_str().unwrap_or("other");
            groups
                .entry(tag)
                .or_default()
                .push((path, method, operation));
        }
    }
    groups
}

fn render_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        page,
        "<details><summary><span class=\"m\">{}</span><code>{}</code> {}</summary><p>{}</p>",
        escaped(&method.to_uppercase()),
        escaped(path),
        prose(&operation["summary"]),
        prose(&operation["description"]),
    );
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let rows = parameters.map(|parameter| {
        format!(
            "<tr><td><code>{}</code> ({})</td><td>{}</td><td>{}</td></tr>",
            text(&parameter["name"]),
            text(&parameter["in"]),
            type_of(&parameter["schema"]),
            prose(&parameter["description"]),
        )
    });
    let rows: String = rows.collect();
    if !rows.is_empty() {
        let _ = write!(
            page,
            "<table><tr><th>Parameter</th><th>Type</th><th></th></tr>{rows}</table>"
        );
    }
    for (kind, content) in object(&operation["requestBody"]["content"]) {
        let _ = write!(
            page,
            "<p>Body, {}: {}</p>",
            escaped(kind),
            type_of(&content["schema"])
        );
    }
    page.push_str("<table><tr><th>Status</th><th>Body</th><th></th></tr>");
    for (status, answer) in object(&operation["responses"]) {
        let bodies = object(&answer["content"]).map(|(_, content)| type_of(&content["schema"]));
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(status),
            bodies.collect::<Vec<_>>().join(", "),
            prose(&answer["description"]),
        );
    }
    page.push_str("</table></details>");
}

fn render_fields(page: &mut String, schema: &Value) {
    let _ = write!(page, "<p>{}</p>", prose(&schema["description"]));
    if let Some(values) = schema["enum"].as_array() {
        let values = values
            .iter()
            .map(|value| format!("<code>{}</code>", text(value)));
        let _ = write!(
            page,
            "<p>One of {}</p>",
            values.collect::<Vec<_>>().join(", ")
        );
    }
    let required = |name: &str| {
        let mut names = schema["required"].as_array().into_iter().flatten();
        names.any(|one| one == name)
    };
    page.push_str("<table>");
    for (name, field) in object(&schema["properties"]) {
        let _ = write!(
            page,
            "<tr><td><code>{}</code>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            if required(name) { " *" } else { "" },
            type_of(field),
            prose(&field["description"]),
        );
    }
    page.push_str("</table>");
}

/// A type in words, with a link where it has a name.
fn type_of(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or(reference));
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for kind in ["oneOf", "anyOf", "allOf"] {
        if let Some(list) = schema[kind].as_array() {
            return list.iter().map(type_of).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(names) = schema["type"].as_array() {
        return names.iter().map(text).collect::<Vec<_>>().join(" or ");
    }
    if schema["items"].is_object() {
        return format!("list of {}", type_of(&schema["items"]));
    }
    text(&schema["type"])
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        Value::Null => String::new(),
        other => escaped(&other.to_string()),
    }
}

/// A text in which `this` is code.
fn prose(value: &Value) -> String {
    let text = text(value);
    let parts = text.split('`').enumerate();
    let marked = parts.map(|(number, part)| match number % 2 {
        0 => part.to_owned(),
        _ => format!("<code>{part}</code>"),
    });
    marked.collect()
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_operation_stands_on_the_page_and_texts_are_escaped() {
        let api = json!({
            "info": {"title": "t", "version": "1"},
            "paths": {"/a": {"get": {"tags": ["x"], "summary": "<b>bold</b> `a<b`", "responses": {
                "200": {"description": "ok", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}}}}}},
            "components": {"schemas": {"A": {"properties": {"n": {"type": "integer"}}, "required": ["n"]}}},
        });
        let page = render(&api);
        assert!(
            page.contains("<code>/a</code>") && page.contains("#schema-A"),
            "{page}"
        );
        assert!(
            page.contains("&lt;b&gt;")
                && !page.contains("<b>bold")
                && page.contains("<code>a&lt;b</code>"),
            "{page}"
        );
    }
}
