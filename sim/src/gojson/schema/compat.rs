//! The requests of `/v1` (Go packages `openai` and `anthropic`).

use super::native::TOOLS;
use super::{ANY_MAP, F32, F64, INT, STRINGS, Struct, Ty};

const fn openai(name: &'static str, fields: &'static [(&'static str, Ty)]) -> Struct {
    Struct {
        package: "openai",
        name,
        fields,
    }
}

const fn anthropic(name: &'static str, fields: &'static [(&'static str, Ty)]) -> Struct {
    Struct {
        package: "anthropic",
        name,
        fields,
    }
}

static STREAM_OPTIONS: Struct = openai("StreamOptions", &[("include_usage", Ty::Bool)]);
static REASONING: Struct = openai("Reasoning", &[("effort", Ty::Str)]);
static RESPONSE_FORMAT: Struct = openai(
    "ResponseFormat",
    &[("type", Ty::Str), ("json_schema", Ty::Any)],
);
static OPENAI_MESSAGE: Struct = openai(
    "Message",
    &[
        ("role", Ty::Str),
        ("content", Ty::Any),
        ("reasoning", Ty::Str),
        ("tool_calls", Ty::Any),
        ("name", Ty::Str),
        ("tool_call_id", Ty::Str),
    ],
);

/// `POST /v1/chat/completions`
pub(crate) static CHAT_COMPLETION: Struct = openai(
    "ChatCompletionRequest",
    &[
        ("model", Ty::Str),
        (
            "messages",
            Ty::List("[]openai.Message", &Ty::Struct(&OPENAI_MESSAGE)),
        ),
        ("stream", Ty::Bool),
        ("stream_options", Ty::Struct(&STREAM_OPTIONS)),
        ("max_tokens", INT),
        ("seed", INT),
        ("stop", Ty::Any),
        ("temperature", F64),
        ("frequency_penalty", F64),
        ("presence_penalty", F64),
        ("top_p", F64),
        ("response_format", Ty::Struct(&RESPONSE_FORMAT)),
        ("tools", TOOLS),
        ("reasoning", Ty::Struct(&REASONING)),
        ("reasoning_effort", Ty::Str),
        ("logprobs", Ty::Bool),
        ("top_logprobs", INT),
    ],
);

/// `POST /v1/completions`
pub(crate) static COMPLETION: Struct = openai(
    "CompletionRequest",
    &[
        ("model", Ty::Str),
        ("prompt", Ty::Str),
        ("frequency_penalty", F32),
        ("max_tokens", INT),
        ("presence_penalty", F32),
        ("seed", INT),
        ("stop", Ty::Any),
        ("stream", Ty::Bool),
        ("stream_options", Ty::Struct(&STREAM_OPTIONS)),
        ("temperature", F32),
        ("top_p", F32),
        ("suffix", Ty::Str),
        ("logprobs", INT),
    ],
);

/// `POST /v1/embeddings`
pub(crate) static V1_EMBED: Struct = openai(
    "EmbedRequest",
    &[
        ("input", Ty::Any),
        ("model", Ty::Str),
        ("dimensions", INT),
        ("encoding_format", Ty::Str),
    ],
);

/// `POST /v1/responses`
pub(crate) static RESPONSES: Struct = openai(
    "ResponsesRequest",
    &[
        ("model", Ty::Str),
        ("background", Ty::Bool),
        ("conversation", Ty::Any),
        ("include", STRINGS),
        ("input", Ty::Any),
        ("instructions", Ty::Str),
        ("max_output_tokens", INT),
        ("reasoning", Ty::Any),
        ("stream", Ty::Bool),
        ("temperature", F64),
        ("text", Ty::Any),
        ("tools", Ty::Any),
        ("tool_choice", Ty::Any),
        ("top_p", F64),
        ("truncation", Ty::Str),
    ],
);

static MESSAGE_PARAM: Struct =
    anthropic("MessageParam", &[("role", Ty::Str), ("content", Ty::Any)]);
static THINKING: Struct = anthropic(
    "ThinkingConfig",
    &[("type", Ty::Str), ("budget_tokens", INT)],
);
static ANTHROPIC_TOOL: Struct = anthropic(
    "Tool",
    &[
        ("type", Ty::Str),
        ("name", Ty::Str),
        ("description", Ty::Str),
        ("input_schema", Ty::Any),
    ],
);

/// `POST /v1/messages`
pub(crate) static MESSAGES_REQUEST: Struct = anthropic(
    "MessagesRequest",
    &[
        ("model", Ty::Str),
        ("max_tokens", INT),
        (
            "messages",
            Ty::List("[]anthropic.MessageParam", &Ty::Struct(&MESSAGE_PARAM)),
        ),
        ("system", Ty::Any),
        ("stream", Ty::Bool),
        ("temperature", F64),
        ("top_p", F64),
        ("top_k", INT),
        ("stop_sequences", STRINGS),
        (
            "tools",
            Ty::List("[]anthropic.Tool", &Ty::Struct(&ANTHROPIC_TOOL)),
        ),
        ("tool_choice", Ty::Any),
        ("thinking", Ty::Struct(&THINKING)),
        ("metadata", ANY_MAP),
    ],
);
