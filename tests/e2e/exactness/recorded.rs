//! The recordings: each exchange, and the node they were made on as far as its own answers tell.

use aivonx_sim::{ModelSpec, NodeSpec};
use serde_json::Value;

use super::raw::Answer;

/// The files, in the order in which they are replayed. Scenes are the simulated node's own test.
pub(crate) const FILES: [&str; 8] = [
    "reads",
    "routing",
    "transport",
    "errors",
    "names",
    "native",
    "v1",
    "store",
];

/// One recorded exchange.
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Answer,
}

/// A recorded request, taken apart.
pub(crate) struct Parts<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) version: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: &'a [u8],
}

impl Exchange {
    pub(crate) fn is_head(&self) -> bool {
        self.request.starts_with(b"HEAD ")
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        let mut ends = self.request.windows(4);
        let end = ends.position(|four| four == b"\r\n\r\n").unwrap();
        let mut lines = std::str::from_utf8(&self.request[..end])
            .unwrap()
            .split("\r\n");
        let mut first = lines.next().unwrap().split(' ');
        let mut word = || first.next().unwrap();
        Parts {
            method: word(),
            target: word(),
            version: word(),
            headers: lines
                .map(|line| line.split_once(':').unwrap())
                .map(|(name, value)| (name, value.trim()))
                .collect(),
            body: &self.request[end + 4..],
        }
    }
}

impl Parts<'_> {
    /// The values of a header, names in any case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = |(key, _): &&(&str, &str)| key.eq_ignore_ascii_case(name);
        let found = self.headers.iter().filter(named);
        found.map(|(_, value)| *value).collect()
    }
}

/// All exchanges of one file.
pub(crate) fn exchanges(file: &str) -> Vec<Exchange> {
    let path = format!("{}/sim/recordings/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| exchange(&serde_json::from_str(line).unwrap()))
        .collect()
}

fn exchange(line: &Value) -> Exchange {
    let request = bytes(&line["request"]);
    let events = line["events"].as_array().unwrap();
    let answer: Vec<u8> = events.iter().flat_map(|event| bytes(&event[1])).collect();
    let closed = line["end"] == "closed by the server";
    Exchange {
        name: line["name"].as_str().unwrap().to_owned(),
        answer: Answer::parse(&answer, request.starts_with(b"HEAD "), closed).unwrap(),
        request,
    }
}

fn bytes(text: &Value) -> Vec<u8> {
    if let Some(text) = text.as_str() {
        return text.as_bytes().to_vec();
    }
    match text["latin1"].as_str() {
        Some(text) => text.chars().map(|c| c as u8).collect(),
        None => long_prompt(text),
    }
}

/// The prompts of 4,000 words, of which the recordings keep the beginning and the length.
fn long_prompt(kept: &Value) -> Vec<u8> {
    let (start, _) = kept["body_start"]
        .as_str()
        .unwrap()
        .split_once("word")
        .unwrap();
    let end = if start.contains("messages") {
        r#""}], "truncate": false, "stream": false}"#
    } else {
        r#"", "truncate": false}"#
    };
    let body = format!("{start}{}{end}", "word ".repeat(4000));
    let width = kept["body_bytes"].as_u64().unwrap() as usize;
    format!("{}\r\n\r\n{body:width$}", kept["head"].as_str().unwrap()).into_bytes()
}

/// The body of one recorded answer.
fn answer(file: &str, name: &str) -> Value {
    let found = exchanges(file).into_iter().find(|one| one.name == name);
    found.unwrap().answer.json()
}

/// The recorded node at rest: its models as `/api/tags` and `/api/show` describe them.
pub(crate) fn node() -> NodeSpec {
    let mut node = NodeSpec::new().version("0.0.0");
    node.vram = false;
    node.blobs.push(b"hello blob".to_vec()); // it lay there from an earlier run
    let recommended = answer("reads", "read-get-api-experimental-model-recommendations");
    node.recommendations = recommended["recommendations"].clone();
    let show = answer("native", "show");
    let tags = answer("reads", "read-get-api-tags");
    node.models = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| model(tag, &show))
        .collect();
    node
}

fn model(tag: &Value, show: &Value) -> ModelSpec {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&tag["name"]).replace(":latest", "");
    let mut model = if name == "emb" {
        let mut model = ModelSpec::embedding(&name);
        model.listed_capabilities = Some(vec!["completion".into()]);
        model
    } else {
        let mut model = ModelSpec::new(&name).parameter("num_ctx", 2048);
        model
            .parameters
            .push(("stop".into(), serde_json::json!(["<|im_end|>"])));
        model.template = text(&show["template"]);
        model.license = text(&show["license"]);
        model
    };
    if name == "tiny" {
        model.model_info = show["model_info"].clone();
        model.tensors = show["tensors"].clone();
        let file = text(&show["modelfile"]);
        let (_, digest) = file.split_once("blobs/sha256-").unwrap();
        digest[..64].clone_into(&mut model.weights_digest);
    }
    model.size = tag["size"].as_u64().unwrap();
    model.digest = text(&tag["digest"]);
    model.modified_at = text(&tag["modified_at"]).parse().ok();
    let details = &tag["details"];
    model.details.parameter_size = text(&details["parameter_size"]);
    model.details.quantization_level = text(&details["quantization_level"]);
    model.details.context_length = details["context_length"].as_u64().unwrap();
    model.details.embedding_length = details["embedding_length"].as_u64().unwrap();
    model
}
