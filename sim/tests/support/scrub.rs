//! Setting aside what the recordings' README names, and nothing else: every other byte stays.

/// Texts that are generated or tell a time.
const TEXTS: [&str; 11] = [
    "created_at",
    "modified_at",
    "expires_at",
    "response",
    "content",
    "text",
    "delta",
    "thinking",
    "token",
    "request_id",
    "item_id",
];
/// Numbers that are counted, measured or tell a time.
const NUMBERS: [&str; 20] = [
    "created",
    "created_at",
    "completed_at",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "logprob",
    "embedding",
    "embeddings",
    "n_prompt_tokens",
    "completed",
    "size_total",
];
/// Lists whose length is generated too.
const LISTS: [&str; 2] = ["context", "bytes"];
/// Ids begin so.
const IDS: [&str; 6] = ["chatcmpl-", "cmpl-", "resp_", "msg_", "req_", "call_"];

/// A text of JSON, NDJSON or SSE without what may differ.
pub(crate) fn scrub(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut keys: Vec<String> = Vec::new();
    let mut key = String::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                let raw = &text[at..end];
                if bytes.get(end) == Some(&b':') {
                    raw[1..raw.len() - 1].clone_into(&mut key);
                    out.push_str(raw);
                } else {
                    out.push_str(&scrub_string(&key, raw));
                }
                at = end;
            }
            b'{' | b'[' => {
                if bytes[at] == b'[' && LISTS.contains(&key.as_str()) {
                    out.push_str("[*]");
                    at = list_end(bytes, at);
                    continue;
                }
                keys.push(key.clone());
                out.push(char::from(bytes[at]));
                at += 1;
            }
            b'}' | b']' => {
                key = keys.pop().unwrap_or_default();
                out.push(char::from(bytes[at]));
                at += 1;
            }
            b'-' | b'0'..=b'9' if !keys.is_empty() => {
                let end = (at..bytes.len())
                    .find(|&i| !is_number(bytes[i]))
                    .unwrap_or(bytes.len());
                out.push_str(if NUMBERS.contains(&key.as_str()) {
                    "0"
                } else {
                    &text[at..end]
                });
                at = end;
            }
            _ => {
                let end = (at + 1..=bytes.len())
                    .find(|&i| text.is_char_boundary(i))
                    .unwrap_or(bytes.len());
                out.push_str(&text[at..end]);
                at = end;
            }
        }
    }
    out
}

fn is_number(b: u8) -> bool {
    b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn list_end(bytes: &[u8], from: usize) -> usize {
    (from..bytes.len())
        .find(|&i| bytes[i] == b']')
        .map_or(bytes.len(), |i| i + 1)
}

fn scrub_string(key: &str, raw: &str) -> String {
    let inner = &raw[1..raw.len() - 1];
    if key == "embedding" {
        return format!("\"{} of base64\"", inner.len());
    }
    if TEXTS.contains(&key) && !inner.is_empty() {
        return "\"*\"".into();
    }
    if IDS.iter().any(|p| inner.starts_with(p)) {
        return "\"id\"".into();
    }
    if matches!(key, "error" | "message") {
        digits_away(raw)
    } else {
        raw.to_owned()
    }
}

/// In errors: the name server, the time stamp and the count of tokens.
fn digits_away(text: &str) -> String {
    let mut out = text.to_owned();
    for (before, after) in [
        (" on ", ": no such host"),
        ("?ts=", "\\\""),
        ("request (", " tokens)"),
        ("n_prompt_tokens\\\":", ","),
    ] {
        let Some(from) = out.find(before).map(|i| i + before.len()) else {
            continue;
        };
        if let Some(len) = out[from..].find(after) {
            out.replace_range(from..from + len, "*");
        }
    }
    out
}

#[test]
fn what_is_not_set_aside_stays_to_the_byte() {
    let line = r#"{"model":"a","created_at":"2026","response":"x","done":true,"context":[1,2],"eval_count":7,"n":7}"#;
    let same = r#"{"model":"a","created_at":"2027","response":"yy","done":true,"context":[3],"eval_count":8,"n":7}"#;
    assert_eq!(scrub(line), scrub(same));
    for other in [
        ("\"a\"", "\"b\""),
        ("\"x\"", "\"\""),
        ("\"n\":7", "\"n\":8"),
        (",\"done\"", ", \"done\""),
    ] {
        assert_ne!(
            scrub(line),
            scrub(&line.replace(other.0, other.1)),
            "{other:?}"
        );
    }
}
