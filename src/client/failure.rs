//! What goes wrong, in words and as an exit code (sysexits.h).

use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::output::clean;

/// The result of a command.
pub(super) type Done = Result<(), Failure>;

/// Why a command was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API said no.
    Answer(Problem),
    /// What was said does not make sense, or too little was said.
    Usage(String),
    /// A file that is to be read cannot be.
    Input(String),
    /// Nobody answers, or only somebody on the way.
    Unreachable(String),
    /// Who answers is no aivonx.
    Protocol(String),
    /// A file cannot be written.
    Output(String),
    /// What this program keeps on this machine cannot be used.
    Config(String),
}

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: u16,
    title: String,
    detail: String,
    /// What is wrong, by field.
    fields: Vec<(String, String)>,
}

impl Failure {
    /// What the process ends with.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Answer(problem) if problem.is_of_the_road() => 69,
            Self::Answer(_) => 1,
            Self::Usage(_) => 2,
            Self::Input(_) => 66,
            Self::Unreachable(_) => 69,
            Self::Output(_) => 73,
            Self::Protocol(_) => 76,
            Self::Config(_) => 78,
        }
    }

    /// Something that is not there, by the name that was said.
    pub(super) fn missing(kind: &str, name: &str, list: &str) -> Self {
        let detail = format!("there is no {kind} {}; `{list}` shows them", clean(name));
        Self::Answer(Problem {
            status: 404,
            title: "Not found".to_owned(),
            detail,
            fields: Vec::new(),
        })
    }

    /// A file that cannot be read.
    pub(super) fn reading(path: &Path, error: &std::io::Error) -> Self {
        Self::Input(format!("{}: {error}", path.display()))
    }

    /// A file that cannot be written.
    pub(super) fn writing(path: &Path, error: &std::io::Error) -> Self {
        Self::Output(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(problem) => problem.fmt(f),
            Self::Usage(text)
            | Self::Input(text)
            | Self::Unreachable(text)
            | Self::Protocol(text)
            | Self::Output(text)
            | Self::Config(text) => f.write_str(text),
        }
    }
}

impl Problem {
    /// Reads problem details (RFC 9457), or whatever else an error says of itself.
    pub(super) fn read(status: u16, body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |name: &str| body[name].as_str().map(clean).unwrap_or_default();
        let fields = body["errors"].as_object().into_iter().flatten();
        let fields = fields.flat_map(|(name, words)| {
            let words = words.as_array().into_iter().flatten();
            words.filter_map(move |word| Some((clean(name), clean(word.as_str()?))))
        });
        let detail = match text("detail") {
            detail if detail.is_empty() => text("error"),
            detail => detail,
        };
        Self {
            status,
            title: text("title"),
            detail,
            fields: fields.collect(),
        }
    }

    /// Whether it says that somebody behind does not answer, not that the request is wrong.
    fn is_of_the_road(&self) -> bool {
        matches!(self.status, 502..=504)
    }

    fn hint(&self) -> Option<&'static str> {
        match self.status {
            401 => Some("log in with `aivonx login`, or set AIVONX_TOKEN"),
            404 if self.title.is_empty() => Some(
                "is that the address of a control plane, or of a proxy whose front door leads to one?",
            ),
            412 => {
                Some("somebody else changed it in the meantime; the same again starts from there")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = self.title.is_empty();
        if is_plain {
            write!(f, "the answer is {}", self.status)?;
        } else {
            f.write_str(&self.title)?;
        }
        if self.fields.is_empty() && !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for (name, words) in &self.fields {
            write!(f, "\n  {name}: {words}")?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_told_line_by_line_and_once() {
        let body = json!({
            "title": "Some fields are not valid", "status": 400, "detail": "name: is required; url: x",
            "errors": {"name": ["is required"], "url": ["must begin with http://", "is too long"]},
        });
        let problem = Problem::read(400, &body.to_string());
        assert_eq!(
            problem.to_string(),
            "Some fields are not valid\n  name: is required\n  url: must begin with http://\n  url: is too long"
        );
        assert_eq!(Failure::Answer(problem).code(), 1);
    }

    #[test]
    fn other_errors_say_what_they_can() {
        let forbidden = json!({"title": "Not allowed", "detail": "the role viewer may not"});
        for (status, body, shown, code) in [
            (
                403,
                forbidden.to_string(),
                "Not allowed: the role viewer may not",
                1,
            ),
            (
                503,
                json!({"error": "the control plane does not answer"}).to_string(),
                "the answer is 503: the control plane does not answer",
                69,
            ),
            (502, "<html>".to_owned(), "the answer is 502", 69),
            (
                500,
                json!({"title": "A\u{1b}[2J", "detail": "x\ny"}).to_string(),
                "A?[2J: x?y",
                1,
            ),
        ] {
            let problem = Problem::read(status, &body);
            assert_eq!(problem.to_string(), shown);
            assert_eq!(Failure::Answer(problem).code(), code, "{status}");
        }
        let stranger = Problem::read(404, "404 page not found");
        assert!(stranger.to_string().contains("front door"), "{stranger}");
        let nobody = Problem::read(401, "{\"title\":\"Log in first\"}");
        assert!(nobody.to_string().contains("aivonx login"), "{nobody}");
    }
}
