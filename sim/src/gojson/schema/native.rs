//! The requests of `/api` (Go package `api`).

use super::{ANY_MAP, INT, STRING_MAP, Struct, Ty, duration, think};

const fn api(name: &'static str, fields: &'static [(&'static str, Ty)]) -> Struct {
    Struct {
        package: "api",
        name,
        fields,
    }
}

const IMAGES: Ty = Ty::List("[]api.ImageData", &Ty::Bytes);
const MESSAGES: Ty = Ty::List("[]api.Message", &Ty::Struct(&MESSAGE));

static TOOL_CALL_FUNCTION: Struct = api(
    "ToolCallFunction",
    &[("name", Ty::Str), ("arguments", Ty::Any), ("index", INT)],
);
static TOOL_CALL: Struct = api(
    "ToolCall",
    &[
        ("id", Ty::Str),
        ("function", Ty::Struct(&TOOL_CALL_FUNCTION)),
    ],
);
static TOOL_FUNCTION: Struct = api(
    "ToolFunction",
    &[
        ("name", Ty::Str),
        ("description", Ty::Str),
        ("parameters", Ty::Any),
    ],
);
static TOOL: Struct = api(
    "Tool",
    &[("type", Ty::Str), ("function", Ty::Struct(&TOOL_FUNCTION))],
);
pub(super) const TOOLS: Ty = Ty::List("api.Tools", &Ty::Struct(&TOOL));

static MESSAGE: Struct = api(
    "Message",
    &[
        ("role", Ty::Str),
        ("content", Ty::Str),
        ("thinking", Ty::Str),
        ("images", IMAGES),
        (
            "tool_calls",
            Ty::List("[]api.ToolCall", &Ty::Struct(&TOOL_CALL)),
        ),
        ("tool_name", Ty::Str),
        ("tool_call_id", Ty::Str),
    ],
);

/// `POST /api/chat`
pub(crate) static CHAT: Struct = api(
    "ChatRequest",
    &[
        ("model", Ty::Str),
        ("messages", MESSAGES),
        ("stream", Ty::Bool),
        ("format", Ty::Any),
        ("keep_alive", Ty::Custom(duration)),
        ("tools", TOOLS),
        ("options", ANY_MAP),
        ("think", Ty::Custom(think)),
        ("truncate", Ty::Bool),
        ("shift", Ty::Bool),
        ("_debug_render_only", Ty::Bool),
        ("logprobs", Ty::Bool),
        ("top_logprobs", INT),
    ],
);

/// `POST /api/generate`
pub(crate) static GENERATE: Struct = api(
    "GenerateRequest",
    &[
        ("model", Ty::Str),
        ("prompt", Ty::Str),
        ("suffix", Ty::Str),
        ("system", Ty::Str),
        ("template", Ty::Str),
        ("context", Ty::List("[]int", &INT)),
        ("stream", Ty::Bool),
        ("raw", Ty::Bool),
        ("format", Ty::Any),
        ("keep_alive", Ty::Custom(duration)),
        ("images", IMAGES),
        ("options", ANY_MAP),
        ("think", Ty::Custom(think)),
        ("truncate", Ty::Bool),
        ("shift", Ty::Bool),
        ("_debug_render_only", Ty::Bool),
        ("logprobs", Ty::Bool),
        ("top_logprobs", INT),
    ],
);

/// `POST /api/embed`
pub(crate) static EMBED: Struct = api(
    "EmbedRequest",
    &[
        ("model", Ty::Str),
        ("input", Ty::Any),
        ("keep_alive", Ty::Custom(duration)),
        ("truncate", Ty::Bool),
        ("dimensions", INT),
        ("options", ANY_MAP),
    ],
);

/// `POST /api/embeddings`
pub(crate) static EMBEDDINGS: Struct = api(
    "EmbeddingRequest",
    &[
        ("model", Ty::Str),
        ("prompt", Ty::Str),
        ("keep_alive", Ty::Custom(duration)),
        ("options", ANY_MAP),
    ],
);

/// `POST /api/show`
pub(crate) static SHOW: Struct = api(
    "ShowRequest",
    &[
        ("model", Ty::Str),
        ("system", Ty::Str),
        ("template", Ty::Str),
        ("verbose", Ty::Bool),
        ("options", ANY_MAP),
        ("name", Ty::Str),
    ],
);

/// `POST /api/pull`
pub(crate) static PULL: Struct = api("PullRequest", TRANSFER);
/// `POST /api/push`
pub(crate) static PUSH: Struct = api("PushRequest", TRANSFER);

const TRANSFER: &[(&str, Ty)] = &[
    ("model", Ty::Str),
    ("insecure", Ty::Bool),
    ("username", Ty::Str),
    ("password", Ty::Str),
    ("stream", Ty::Bool),
    ("name", Ty::Str),
];

/// `POST /api/create`
pub(crate) static CREATE: Struct = api(
    "CreateRequest",
    &[
        ("model", Ty::Str),
        ("stream", Ty::Bool),
        ("quantize", Ty::Str),
        ("from", Ty::Str),
        ("remote_host", Ty::Str),
        ("files", STRING_MAP),
        ("adapters", STRING_MAP),
        ("draft_files", STRING_MAP),
        ("template", Ty::Str),
        ("license", Ty::Any),
        ("system", Ty::Str),
        ("parameters", ANY_MAP),
        ("messages", MESSAGES),
        ("renderer", Ty::Str),
        ("parser", Ty::Str),
        ("requires", Ty::Str),
        ("info", ANY_MAP),
        ("name", Ty::Str),
        ("quantization", Ty::Str),
    ],
);

/// `POST /api/copy`
pub(crate) static COPY: Struct = api(
    "CopyRequest",
    &[("source", Ty::Str), ("destination", Ty::Str)],
);

/// `DELETE /api/delete`
pub(crate) static DELETE: Struct = api("DeleteRequest", &[("model", Ty::Str), ("name", Ty::Str)]);
