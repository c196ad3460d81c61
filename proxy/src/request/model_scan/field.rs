//! What a scan found.

/// How the body ended, as a node would judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first JSON value, or the multipart form, is whole.
    Complete,
    /// It stopped too early; an empty body too.
    Incomplete,
    /// It is no JSON, or no form. A node answers 400.
    Broken,
}

/// What kind of value the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// None has begun.
    None,
    /// An object, or a multipart form: the only kind with fields.
    Object,
    /// `null`, which Go takes for an object without fields.
    Null,
    /// Anything else: a node answers 400.
    Other,
}

/// A field that should be a string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field {
    /// Not there, or only as `null`.
    #[default]
    Absent,
    /// The last text given (in a form: the first); maybe empty, never trimmed.
    Text(String),
    /// The text that counts is longer than 4 KiB as written; it was not kept. No valid name is.
    TooLong,
    /// At least once a number, boolean, array or object: a node answers 400 whatever else is
    /// there. In a form: named or encoded in a way that only a node reads.
    WrongType,
}

impl Field {
    /// The text, if it is one that was kept.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::TooLong | Self::WrongType => None,
        }
    }

    /// Takes another value in; a wrong type is remembered, since Go reports it at the end.
    pub(super) fn set(&mut self, value: Self) {
        if *self != Self::WrongType {
            *self = value;
        }
    }
}

/// All that a scan has to say at the end of the body.
///
/// Of a body that is not [`Outcome::Complete`] it holds what was read before the end or the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How the body ended.
    pub outcome: Outcome,
    /// What kind of value it is.
    pub root: Root,
    /// `model`.
    pub model: Field,
    /// `name`, which show, pull, push, create and delete read where `model` is empty.
    pub name: Field,
    /// `stream`, where it is a boolean; `null` and other types leave it as it was.
    pub stream: Option<bool>,
    /// `stream_options.include_usage` of the `/v1` routes, likewise.
    pub include_usage: Option<bool>,
    /// Whether `node_id` has a value other than `null`; the last one counts. No route of Ollama's reads it.
    pub node_id: bool,
    /// How often some keys of the root were there: whether there is something to look for.
    pub given: Given,
    /// Where the value of a form's `model` stands in the body. Of JSON `request/members` says it.
    pub model_at: Option<(u64, u64)>,
    /// The length of the body up to the end of its first value; what follows is ignored.
    pub end: Option<u64>,
}

/// How often keys of the root object were there, whatever their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `model`
    pub model: u32,
    /// `keep_alive` of the native routes.
    pub keep_alive: u32,
    /// `tools`
    pub tools: u32,
    /// `prompt`, `messages` and `input` together: what the native routes have to do.
    pub work: u32,
}

impl Found {
    /// Nothing, as before the first byte.
    pub(super) fn nothing() -> Self {
        Self {
            outcome: Outcome::Incomplete,
            root: Root::None,
            model: Field::Absent,
            name: Field::Absent,
            stream: None,
            include_usage: None,
            node_id: false,
            given: Given::default(),
            model_at: None,
            end: None,
        }
    }

    /// What is known of a body that only a node can read.
    pub(crate) fn unjudged() -> Self {
        Self {
            outcome: Outcome::Broken,
            ..Self::nothing()
        }
    }
}
