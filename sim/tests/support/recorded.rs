//! The store the recordings were made on, as node configuration, and the recordings themselves.

use aivonx_sim::{ModelDetails, ModelSpec, NodeSpec};
use chrono::DateTime;
use serde_json::{Value, json};

const TEMPLATE: &str = "{{- if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{- if .Tools }}<|im_start|>system\nTools: {{ .Tools }}<|im_end|>\n{{ end }}{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}{{ if .ToolCalls }}{{ range .ToolCalls }}<tool_call>\n{\"name\": \"{{ .Function.Name }}\", \"arguments\": {{ .Function.Arguments }}}</tool_call>{{ end }}{{ end }}<|im_end|>\n{{ end }}<|im_start|>assistant\n";

/// Reads one file of recordings.
pub(crate) fn recording(file: &str) -> Vec<Value> {
    let path = format!("{}/recordings/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recordings are there");
    text.lines()
        .map(|l| serde_json::from_str(l).expect("a line of JSON"))
        .collect()
}

/// A recorded text as bytes; large bodies are made again.
pub(crate) fn bytes_of(text: &Value) -> Vec<u8> {
    match text {
        Value::String(s) => s.clone().into_bytes(),
        Value::Object(o) => match o.get("latin1").and_then(Value::as_str) {
            Some(s) => s.chars().map(|c| c as u8).collect(),
            None => rebuilt(text),
        },
        _ => Vec::new(),
    }
}

/// The two prompts of 4,000 words, of which only the beginning was kept.
fn rebuilt(stored: &Value) -> Vec<u8> {
    let start = stored["body_start"].as_str().expect("a beginning");
    let size = stored["body_bytes"].as_u64().expect("a size") as usize;
    let opening = &start[..start.find("word").expect("words")];
    let close = if opening.contains("messages") {
        "\"}]"
    } else {
        "\""
    };
    let mut end = format!("{close}, \"truncate\": false");
    if opening.contains("messages") {
        end.push_str(", \"stream\": false");
    }
    end.push('}');
    let mut body = format!("{opening}{}{end}", "word ".repeat(4000));
    body.push_str(&" ".repeat(size - body.len()));
    format!("{}\r\n\r\n{body}", stored["head"].as_str().expect("a head")).into_bytes()
}

fn base(name: &str, size: u64, digest: &str, at: &str) -> ModelSpec {
    let at = DateTime::parse_from_rfc3339(at).expect("a time").to_utc();
    ModelSpec::new(name)
        .size(size)
        .digest(digest)
        .modified_at(at)
}

fn details(parameters: &str, context: u64, embedding: u64) -> ModelDetails {
    ModelDetails {
        parameter_size: parameters.into(),
        quantization_level: "F16".into(),
        context_length: context,
        embedding_length: embedding,
        ..ModelDetails::default()
    }
}

fn chatty(model: ModelSpec) -> ModelSpec {
    let mut model = model
        .parameter("num_ctx", 2048)
        .parameter("stop", json!(["<|im_end|>"]));
    model.template = TEMPLATE.into();
    model.license = "made for tests".into();
    model
}

/// `tiny` as recorded.
pub(crate) fn tiny() -> ModelSpec {
    let digest = "f788c8494e75dd5652f56f3485d2ea943f76d85f9f4a73cb013ee4bd15cc38c5";
    let mut model = chatty(base(
        "tiny",
        2_877_124,
        digest,
        "2026-11-23T06:16:06.527016123Z",
    ))
    .weights_digest("e2e3d901dd14b94413f11c9d35b8778978e24573bda0350964b2dd9aadc77cca");
    model.details = details("1.38M", 8192, 128);
    model.model_info = json!({
        "general.architecture": "llama", "general.file_type": 1, "general.parameter_count": 1_376_896,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 0.00001, "llama.block_count": 2, "llama.context_length": 8192,
        "llama.embedding_length": 128, "llama.feed_forward_length": 256, "llama.rope.dimension_count": 64,
        "llama.rope.freq_base": 10000, "llama.vocab_size": 4096, "tokenizer.ggml.add_bos_token": true,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.merges": null,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.token_type": null,
        "tokenizer.ggml.tokens": null, "tokenizer.ggml.unknown_token_id": 0,
    });
    model.tensors = tensors();
    model
}

fn tensors() -> Value {
    let tensor = |name: String, kind: &str, shape: &[u64]| json!({"name": name, "type": kind, "shape": shape});
    let mut all = vec![
        tensor("token_embd.weight".into(), "F16", &[128, 4096]),
        tensor("output_norm.weight".into(), "F32", &[128]),
        tensor("output.weight".into(), "F16", &[128, 4096]),
    ];
    for block in 0..2 {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        for norm in ["attn_norm", "ffn_norm"] {
            all.push(tensor(name(norm), "F32", &[128]));
        }
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            all.push(tensor(name(part), "F16", &[128, 128]));
        }
        all.push(tensor(name("ffn_gate"), "F16", &[128, 256]));
        all.push(tensor(name("ffn_up"), "F16", &[128, 256]));
        all.push(tensor(name("ffn_down"), "F16", &[256, 128]));
    }
    Value::Array(all)
}

/// `small` as recorded.
pub(crate) fn small() -> ModelSpec {
    let digest = "cb8ea2c4d5c53d637dfc280c3e505ec8acbfec4386958361d6a1337f92a2a85c";
    let mut model = chatty(base(
        "small",
        109_230_469,
        digest,
        "2026-11-23T06:16:07.636895065Z",
    ))
    .weights_digest("bfbcd629fd7fa2a5ddf67c5ddc6378cee410ee5a70e59a59ea3d44a114081f68");
    model.weights_size = Some(109_229_856);
    model.details = details("54.54M", 8192, 512);
    model
}

/// `big` as recorded.
pub(crate) fn big() -> ModelSpec {
    let digest = "fffb92c697e8469f5115a2a4dfe9d63856192e98564581db8e72c750340245aa";
    let mut model = chatty(base(
        "big",
        822_418_086,
        digest,
        "2026-11-23T06:16:16.963655951Z",
    ))
    .weights_digest("82cdf6f732774e9dc5e944857bcc34585d6b956a1e5f1a3896fe7f0a793b0086");
    model.weights_size = Some(822_417_472);
    model.details = details("411.09M", 8192, 1024);
    model
}

/// `emb` as recorded: an embedding model that `/api/tags` calls a completion model.
pub(crate) fn emb() -> ModelSpec {
    let digest = "7a8ba487b17552b7f180a0bcb1de1b9353f7d87bb4e80fe96ae2b55ae502a5b6";
    let mut model = base("emb", 2_876_854, digest, "2026-11-23T06:23:20.373888858Z")
        .capabilities(["embedding"]);
    model.listed_capabilities = Some(vec!["completion".into()]);
    model.details = details("1.38M", 2048, 128);
    model
}

/// The recorded node at rest: no loads to wait for, tokens at once.
pub(crate) fn node() -> NodeSpec {
    let mut spec = NodeSpec::new()
        .model(tiny())
        .model(small())
        .model(big())
        .model(emb())
        .version("0.0.0");
    spec.vram = false;
    spec.blobs = vec![b"hello blob".to_vec()];
    spec.recommendations = recommendations();
    spec
}

/// What ollama.com recommended on that day.
fn recommendations() -> Value {
    let cloud = |model: &str, about: &str, context: u64, output: u64| json!({"model": model, "description": about, "context_length": context, "max_output_tokens": output});
    let local = |model: &str, about: &str, bytes: u64| json!({"model": model, "description": about, "vram_bytes": bytes});
    json!([
        cloud(
            "kimi-k2.6:cloud",
            "State-of-the-art coding, long-horizon execution, and multimodal agent swarm capability",
            262_144,
            262_144
        ),
        cloud(
            "glm-5.1:cloud",
            "Reasoning and code generation",
            202_752,
            131_072
        ),
        cloud(
            "qwen3.5:cloud",
            "Reasoning, coding, and agentic tool use with vision",
            262_144,
            32_768
        ),
        cloud(
            "minimax-m2.7:cloud",
            "Fast, efficient coding and real-world productivity",
            204_800,
            128_000
        ),
        local(
            "gemma4",
            "Reasoning and code generation locally",
            12_000_000_000
        ),
        local(
            "qwen3.5",
            "Reasoning, coding, and visual understanding locally",
            14_000_000_000
        ),
    ])
}
