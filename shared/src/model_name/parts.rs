//! Splitting a name into its parts and checking each, for names and for keys.

use super::{DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, NameError};

/// The four parts of a valid name, defaults filled in, borrowed from the text.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) host: &'a str,
    pub(super) namespace: &'a str,
    pub(super) model: &'a str,
    pub(super) tag: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits from the right, as Ollama's `ParseNameBare`: tag, model, namespace, host. A
    /// separator promises a part on both of its sides; an empty one is found invalid below.
    pub(super) fn split(text: &'a str) -> Result<Self, NameError> {
        let (rest, tag) = match text.rsplit_once(':') {
            Some((rest, tag)) if has_tag(text) => (rest, tag),
            _ => (text, DEFAULT_TAG),
        };
        let (rest, model) = match rest.rsplit_once('/') {
            Some((rest, model)) => (Some(rest), model),
            None => (None, rest),
        };
        let (host, namespace) = match rest.map(|rest| rest.rsplit_once('/').ok_or(rest)) {
            None => (DEFAULT_HOST, DEFAULT_NAMESPACE),
            Some(Err(namespace)) => (DEFAULT_HOST, namespace),
            Some(Ok((host, namespace))) => (without_scheme(host), namespace),
        };
        let parts = Self {
            host,
            namespace,
            model,
            tag,
        };
        if parts.valid() {
            Ok(parts)
        } else {
            Err(NameError::Invalid)
        }
    }

    /// How long `host/namespace/model:tag` is.
    pub(super) fn len(&self) -> usize {
        self.host.len() + self.namespace.len() + self.model.len() + self.tag.len() + 3
    }

    /// Appends `host/namespace/model:tag`.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str(self.host);
        out.push('/');
        out.push_str(self.namespace);
        out.push('/');
        out.push_str(self.model);
        out.push(':');
        out.push_str(self.tag);
    }

    /// The limits of Ollama's `isValidLen` and the extra characters of its `isValidPart`.
    fn valid(&self) -> bool {
        valid(self.host, 350, b".:")
            && valid(self.namespace, 80, b"")
            && valid(self.model, 80, b".")
            && valid(self.tag, 80, b".")
    }
}

/// Whether the last `:` belongs to a tag and not to a host's port.
pub(super) fn has_tag(text: &str) -> bool {
    text.rfind(':') > text.rfind('/')
}

/// A scheme is cut off; where nothing follows it, Ollama fills the default host in.
fn without_scheme(host: &str) -> &str {
    match host.split_once("://") {
        Some((_, "")) => DEFAULT_HOST,
        Some((_, host)) => host,
        None => host,
    }
}

/// ASCII letters, digits and `_` anywhere; `-` and `extra` not at the start.
fn valid(part: &str, longest: usize, extra: &[u8]) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match part.as_bytes() {
        [] => false,
        [first, rest @ ..] => {
            part.len() <= longest
                && word(*first)
                && rest
                    .iter()
                    .all(|&byte| word(byte) || byte == b'-' || extra.contains(&byte))
        }
    }
}
