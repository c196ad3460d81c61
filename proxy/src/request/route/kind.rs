//! What the routes of nodes and stores have in common and what sets them apart; asked all along the
//! way of a request.

/// What a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Use models, and see which there are.
    Infer,
    /// Change what nodes store and have loaded.
    Manage,
}

impl Scope {
    /// The name in the fleet document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Manage => "manage",
        }
    }
}

/// A route that a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NodeRoute {
    /// `/api/generate`
    Generate,
    /// `/api/chat`
    Chat,
    /// `/api/embed`
    Embed,
    /// `/api/embeddings`
    Embeddings,
    /// `/api/show`
    Show,
    /// `/v1/chat/completions`
    V1Chat,
    /// `/v1/completions`
    V1Completions,
    /// `/v1/embeddings`
    V1Embeddings,
    /// `/v1/responses`
    V1Responses,
    /// `/v1/messages`
    V1Messages,
    /// `/v1/audio/transcriptions`
    V1Transcriptions,
    /// A read that any node may answer: status, recommendations.
    AnyNode,
    /// A web search or fetch, which the node passes on to ollama.com.
    WebTool,
    /// A POST under `/api` or `/v1` that this version does not know: routed by its `model`.
    Unknown,
}

/// A route that changes what nodes have installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StoreRoute {
    /// `/api/pull`
    Pull,
    /// `/api/push`
    Push,
    /// `/api/create`
    Create,
    /// `/api/copy`
    Copy,
    /// `/api/delete`
    Delete,
    /// `/api/blobs/{digest}`, `POST` and `HEAD`
    Blob,
}

impl StoreRoute {
    /// The path, as metrics and access lines show it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Pull => "/api/pull",
            Self::Push => "/api/push",
            Self::Create => "/api/create",
            Self::Copy => "/api/copy",
            Self::Delete => "/api/delete",
            Self::Blob => "/api/blobs/{digest}",
        }
    }

    /// Whether the answer comes as progress lines where the body says nothing of it.
    pub(crate) fn streams_by_default(self) -> bool {
        matches!(self, Self::Pull | Self::Push | Self::Create)
    }

    /// Whether a second try of what a node may have begun would not be the same
    /// (ollama-api.md §1, column Retry).
    pub(crate) fn acts_once(self) -> bool {
        matches!(self, Self::Create | Self::Delete)
    }
}

impl NodeRoute {
    /// The path, as metrics and access lines show it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Generate => "/api/generate",
            Self::Chat => "/api/chat",
            Self::Embed => "/api/embed",
            Self::Embeddings => "/api/embeddings",
            Self::Show => "/api/show",
            Self::V1Chat => "/v1/chat/completions",
            Self::V1Completions => "/v1/completions",
            Self::V1Embeddings => "/v1/embeddings",
            Self::V1Responses => "/v1/responses",
            Self::V1Messages => "/v1/messages",
            Self::V1Transcriptions => "/v1/audio/transcriptions",
            Self::AnyNode => "any_node",
            Self::WebTool => "web_tool",
            Self::Unknown => "unknown",
        }
    }

    /// Whether `name` stands in for an absent `model` (ollama-api.md §2).
    pub(crate) fn reads_name(self) -> bool {
        matches!(self, Self::Show | Self::Unknown)
    }

    /// Whether a zstd body is understood.
    pub(crate) fn reads_zstd(self) -> bool {
        matches!(
            self,
            Self::V1Chat
                | Self::V1Completions
                | Self::V1Embeddings
                | Self::V1Responses
                | Self::V1Messages
        )
    }

    /// Whether a model is named in the body.
    pub(crate) fn names_model(self) -> bool {
        !matches!(self, Self::AnyNode | Self::WebTool)
    }

    /// Whether the answer comes as a stream where the body says nothing of it.
    pub(crate) fn streams_by_default(self) -> bool {
        matches!(self, Self::Generate | Self::Chat)
    }

    /// Whether the answer may come as a stream at all.
    pub(crate) fn may_stream(self) -> bool {
        !matches!(
            self,
            Self::Embed
                | Self::Embeddings
                | Self::V1Embeddings
                | Self::Show
                | Self::AnyNode
                | Self::WebTool
        )
    }

    /// Whether a request with nothing to do unloads its model where `keep_alive` says so.
    pub(crate) fn may_unload(self) -> bool {
        matches!(
            self,
            Self::Generate | Self::Chat | Self::Embed | Self::Embeddings
        )
    }

    /// Whether it uses a model, so that it counts as usage.
    pub(crate) fn uses_model(self) -> bool {
        self.names_model() && self != Self::Show
    }

    /// Whether the runner is asked, so that the answer's time says something of it.
    pub(crate) fn infers(self) -> bool {
        !matches!(
            self,
            Self::Show | Self::AnyNode | Self::WebTool | Self::Unknown
        )
    }
}
