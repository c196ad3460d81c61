//! The reference and the scanner against what a real Ollama answered to each body.

use serde_json::Value;

use super::*;

struct Exchange {
    name: String,
    path: String,
    body: Vec<u8>,
    head: String,
    answer: String,
}

/// The requests with a JSON body in one of the files, and the answers to them.
fn exchanges(file: &str) -> Vec<Exchange> {
    let path = format!(
        "{}/../sim/recordings/{file}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(exchange).collect()
}

fn exchange(line: &str) -> Option<Exchange> {
    let record: Value = serde_json::from_str(line).unwrap();
    let request = bytes(record.get("request")?)?;
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(request[..end].to_vec()).unwrap();
    let mut words = head.split(' ');
    let method = words.next()?;
    let path = words.next()?.to_owned();
    let has_body = matches!(method, "POST" | "DELETE") && head.contains("Content-Length");
    if !has_body || path.contains("/blobs/") || head.contains("Transfer-Encoding") {
        return None;
    }
    let events = record["events"].as_array()?.iter();
    let answer = events
        .filter_map(|event| bytes(&event[1]))
        .flatten()
        .collect();
    Some(Exchange {
        name: record["name"].as_str()?.to_owned(),
        path,
        body: request[end + 4..].to_vec(),
        answer: String::from_utf8(answer).unwrap(),
        head,
    })
}

/// Recorded text; what was not UTF-8 has a character for each byte.
fn bytes(recorded: &Value) -> Option<Vec<u8>> {
    match recorded.get("latin1") {
        Some(latin1) => latin1
            .as_str()?
            .chars()
            .map(|c| u8::try_from(c).ok())
            .collect(),
        None => recorded.as_str().map(|text| text.as_bytes().to_vec()),
    }
}

/// What stands between two pieces of the answer.
fn between<'a>(answer: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = answer.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

/// The name that the answer quotes, if it quotes the one that the request gave.
fn quoted_model(exchange: &Exchange) -> Option<String> {
    let answer = exchange.answer.replace("\\\"", "\"");
    between(&answer, "{\"error\":\"model '", "' not found")
        .or_else(|| between(&answer, "\"message\":\"model '", "' not found"))
        .or_else(|| between(&answer, "model \"", "\" not found"))
        .or_else(|| between(&answer, "not both: \"", "\""))
        .or_else(|| {
            let inference = [
                "/api/generate",
                "/api/chat",
                "/v1/chat/completions",
                "/v1/messages",
            ];
            let ok = answer.starts_with("HTTP/1.1 200") && inference.contains(&&exchange.path[..]);
            ok.then(|| between(&answer, "\"model\":\"", "\"")).flatten()
        })
        .map(str::to_owned)
}

/// Checks one exchange; returns whether the answer told anything about the fields.
fn check(exchange: &Exchange) -> bool {
    let Exchange {
        name, answer, body, ..
    } = exchange;
    let verdict = reference::decode(body);
    let blank = body.iter().all(u8::is_ascii_whitespace);
    if answer.contains("missing request body") || answer.contains("\"message\":\"EOF\"") {
        assert!(blank && verdict == Verdict::Truncated, "{name}");
        return true;
    }
    if answer.contains("\"unexpected EOF\"") {
        assert!(!blank && verdict == Verdict::Truncated, "{name}");
        return true;
    }
    if answer.contains("\"invalid character") {
        assert_eq!(verdict, Verdict::Syntax, "{name}");
        return true;
    }
    let Verdict::Value(fields) = verdict else {
        panic!("{name}: no value");
    };
    let given = |text: &Text| match text {
        Text::Is(text, _) => text.clone(),
        Text::Unset | Text::TypeError => String::new(),
    };
    if exchange.path == "/api/copy" {
        return false; // reads `source`
    }
    if answer.contains("cannot unmarshal") {
        assert!(answer.contains(".model of type string"), "{name}");
        assert_eq!(fields.model, Text::TypeError, "{name}");
    } else if answer.contains("model is required") {
        assert_eq!(given(&fields.model), "", "{name}");
    } else if let Some(quoted) = quoted_model(exchange) {
        let model = given(&fields.model);
        let shown = exchange.path == "/api/show" && quoted == format!("{model}:latest");
        assert!(shown || quoted == model, "{name}: {quoted:?} {model:?}");
    } else {
        assert_ne!(fields.model, Text::TypeError, "{name}");
        return false;
    }
    true
}

#[test]
fn the_reference_and_the_scanner_judge_each_recorded_body_as_ollama_did() {
    let (mut seen, mut telling) = (0, 0);
    for file in ["names", "errors", "native", "v1", "store", "transport"] {
        for exchange in exchanges(file) {
            let zstd = exchange.head.contains("zstd") && exchange.path.starts_with("/v1");
            let refused = exchange.answer.contains(" 403 ") || exchange.name == "transport-two-cl";
            if zstd || refused || exchange.path.contains("audio") {
                continue;
            }
            seen += 1;
            telling += usize::from(check(&exchange));
            for cut in 0..=exchange.body.len() {
                let (head, tail) = exchange.body.split_at(cut);
                assert_agrees(&exchange.body, &scan([head, tail]));
            }
        }
    }
    assert!(seen > 170 && telling > 120, "{seen} {telling}");
}

#[test]
fn the_spellings_of_the_field_are_read_as_recorded() {
    for exchange in exchanges("names") {
        if exchange.answer.starts_with("HTTP/1.1 200") {
            let found = scan([&exchange.body[..]]);
            let given = found.model.text().or(found.name.text());
            let shown = given.unwrap_or_default().trim().to_lowercase();
            assert!(shown.contains("tiny"), "{}", exchange.name);
        }
    }
}

#[test]
fn the_recorded_zstd_body_names_its_model() {
    let exchanges = exchanges("v1");
    let exchange = exchanges
        .iter()
        .find(|exchange| exchange.name == "v1-chat-zstd");
    let mut scan = super::super::ZstdScan::json().unwrap();
    scan.feed(&exchange.unwrap().body);
    assert_eq!(scan.finish().unwrap().model, Field::Text("tiny".into()));
}

#[test]
fn the_recorded_form_names_its_model() {
    let exchanges = exchanges("v1");
    let exchange = exchanges
        .iter()
        .find(|exchange| exchange.path.contains("audio"));
    let exchange = exchange.unwrap();
    let content_type = between(&exchange.head, "Content-Type: ", "\r\n");
    let content_type = content_type.or(exchange.head.split_once("Content-Type: ").map(|two| two.1));
    let mut scan = ModelScan::for_form(content_type.unwrap().as_bytes()).unwrap();
    scan.feed(&exchange.body);
    assert!(scan.root_closed());
    assert_eq!(scan.finish().model, Field::Text("tiny".into()));
}
