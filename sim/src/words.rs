//! Generated text: seeded noise in plain words, JSON that fits a schema, calls of tools.

use serde_json::{Map, Value, json};

/// Tokens of noise. None needs an escape in JSON.
const WORDS: [&str; 64] = [
    " a", " of", " is", " we", " so", " it", " at", " in", " to", " as", " on", " an", " or",
    " be", " by", " up", " the", " sky", " and", " red", " sun", " sea", " air", " far", " way",
    " all", " day", " sets", " then", " moss", " fern", " leaf", " foam", " sand", " salt",
    " wind", " run", " down", " blue", " gold", " grey", " long", " more", " than", " see",
    " from", " side", " noon", " thin", " when", " away", " turn", " with", " over", " hill",
    " light", " waves", " night", " stars", " quiet", " every", " river", ".", ",",
];

/// One token of noise.
pub(crate) fn word(rng: &mut fastrand::Rng) -> &'static str {
    WORDS[rng.usize(..WORDS.len())]
}

/// Cuts a text into tokens of a few bytes at character borders.
pub(crate) fn token_at(text: &str, from: usize) -> &str {
    let rest = &text[from..];
    let end = rest.char_indices().nth(5).map_or(rest.len(), |(at, _)| at);
    &rest[..end]
}

/// How many tokens [`token_at`] makes of a text.
pub(crate) fn token_count(text: &str) -> usize {
    text.chars().count().div_ceil(5)
}

/// A value that fits a JSON schema as far as tests need: required properties, enums, basic types.
pub(crate) fn instance(schema: &Value, rng: &mut fastrand::Rng, depth: usize) -> Value {
    if let Some(choices) = schema["enum"].as_array().filter(|c| !c.is_empty()) {
        return choices[rng.usize(..choices.len())].clone();
    }
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().cloned().unwrap_or_default(),
        kind => kind.clone(),
    };
    match kind.as_str() {
        Some("string") => json!(word(rng).trim()),
        Some("integer") => json!(rng.u8(..100)),
        Some("number") => json!(f64::from(rng.u8(..100)) / 4.0),
        Some("boolean") => json!(rng.bool()),
        Some("null") => Value::Null,
        Some("array") if depth < 8 => json!([instance(&schema["items"], rng, depth + 1)]),
        Some("array") => json!([]),
        _ => object(schema, rng, depth),
    }
}

fn object(schema: &Value, rng: &mut fastrand::Rng, depth: usize) -> Value {
    let mut map = Map::new();
    if depth < 8
        && let Some(properties) = schema["properties"].as_object()
    {
        for (name, inner) in properties {
            map.insert(name.clone(), instance(inner, rng, depth + 1));
        }
    }
    Value::Object(map)
}

/// The text of an answer in JSON: `"json"` or a schema; `None` when no format was asked for.
pub(crate) fn formatted(format: &Value, rng: &mut fastrand::Rng) -> Option<String> {
    match format {
        Value::String(s) if s == "json" => {
            let answer: String = (0..20).map(|_| word(rng)).collect();
            Some(json!({"answer": answer.trim()}).to_string())
        }
        Value::Object(_) => Some(instance(format, rng, 0).to_string()),
        _ => None,
    }
}

/// The call a model makes when it is asked to: the tool the question names, or the first one when
/// it only says "call". Native shape.
pub(crate) fn tool_call(tools: &Value, question: &str, rng: &mut fastrand::Rng) -> Option<Value> {
    let tools = tools.as_array()?;
    let name = |t: &Value| {
        t["function"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let named = tools
        .iter()
        .find(|t| !name(t).is_empty() && question.contains(&name(t)));
    let tool = named.or_else(|| tools.first().filter(|_| question.contains("call")))?;
    let arguments = match instance(&tool["function"]["parameters"], rng, 0) {
        Value::Object(map) => Value::Object(map),
        _ => json!({}),
    };
    let id: String = (0..8).map(|_| rng.lowercase()).collect();
    Some(json!({
        "id": format!("call_{id}"),
        "function": {"index": 0, "name": name(tool), "arguments": arguments},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_filled_with_fitting_values() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"},
            "unit": {"enum": ["C"]}, "tags": {"type": "array", "items": {"type": "boolean"}}}});
        let value = instance(&schema, &mut fastrand::Rng::with_seed(1), 0);
        assert!(value["city"].is_string() && value["days"].is_u64());
        assert_eq!(value["unit"], "C");
        assert!(value["tags"][0].is_boolean());
    }

    #[test]
    fn a_tool_is_called_when_the_question_names_it() {
        let tools = json!([{"function": {"name": "now"}}, {"function": {"name": "weather"}}]);
        let mut rng = fastrand::Rng::with_seed(1);
        let call = tool_call(&tools, "what weather is it", &mut rng).expect("a call");
        assert_eq!(call["function"]["name"], "weather");
        assert!(tool_call(&tools, "Why is the sky blue?", &mut rng).is_none());
    }
}
