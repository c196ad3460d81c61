//! What a message says, out of the many shapes of `content`: text, and whether there is a picture.

use serde_json::Value;

use crate::answer::ApiError;
use crate::infer::Ask;
use crate::prompt::PromptBuilder;

/// The text of a `content`, joined, and whether it holds images or sound.
pub(super) fn text_of(content: &Value) -> Result<(String, bool), ApiError> {
    let parts = match content {
        Value::Null => return Ok((String::new(), false)),
        Value::String(s) => return Ok((s.clone(), false)),
        Value::Array(parts) => parts,
        other => {
            let kind = match other {
                Value::Number(_) => "float64",
                Value::Bool(_) => "bool",
                _ => "map[string]interface {}",
            };
            return Err(ApiError::bad(format!(
                "invalid message content type: {kind}"
            )));
        }
    };
    let (mut text, mut media) = (String::new(), false);
    for part in parts {
        match part["type"].as_str().unwrap_or_default() {
            "image_url" => {
                let url = part["image_url"]["url"]
                    .as_str()
                    .or_else(|| part["image_url"].as_str());
                if !url.is_some_and(|u| u.starts_with("data:")) {
                    return Err(ApiError::bad("invalid image input"));
                }
                media = true;
            }
            "image" | "input_image" | "input_audio" => media = true,
            _ => {}
        }
        for key in ["text", "content"] {
            if let Some(piece) = part[key].as_str() {
                text.push_str(piece);
            }
        }
    }
    Ok((text, media))
}

/// Fills an ask with messages of any dialect.
pub(super) fn fill(
    ask: &mut Ask,
    system: Option<&str>,
    messages: &[Value],
) -> Result<(), ApiError> {
    let mut prompt = PromptBuilder::new();
    if ask.tools.as_array().is_some_and(|t| !t.is_empty()) {
        prompt.text(&ask.tools.to_string());
    }
    if let Some(system) = system.filter(|s| !s.is_empty()) {
        prompt.message("system", system);
    }
    for message in messages {
        let (text, media) = text_of(&message["content"])?;
        let role = message["role"].as_str().unwrap_or("user");
        prompt.message(role, &text);
        ask.has_media |= media;
        ask.question = if role.eq_ignore_ascii_case("user") {
            text
        } else {
            String::new()
        };
    }
    ask.prompt = prompt.build();
    Ok(())
}
