//! What goes wrong in the REST API, and the one place where it becomes a status and a body: problem
//! details (RFC 9457), and beside them the keys that the predecessor's callers look for: `detail`,
//! `error`, and the names of fields.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use aivonx_shared::revision::Revision;
use serde_json::{Map, Value, json};

use crate::domain::Invalid;
use crate::store::StoreError;

/// The result of a handler.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// What is wrong, by field.
pub(crate) type Fields = BTreeMap<String, Vec<String>>;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// Fields of the body or the query do not make sense.
    Invalid(Fields),
    /// The body or a part of the address cannot be read.
    Malformed(String),
    /// The body is of another type than JSON.
    WrongType,
    /// The body is of another type than YAML or JSON.
    NoDocument,
    /// The body is longer than any that makes sense.
    TooLarge,
    /// Nobody says who asks.
    NoLogin,
    /// A token that is expired, forged or withdrawn.
    BadToken(String),
    /// The name or the password is wrong; which of them is not said.
    WrongPassword,
    /// The caller is known and may not.
    Forbidden(String),
    /// There is no such thing, or not for this caller.
    NotFound(String),
    /// The path is there, for other methods.
    WrongMethod,
    /// Another one has this value, which must be its own alone.
    Taken(Fields),
    /// It was changed since the caller read it.
    Changed {
        /// The version it has now.
        current: i64,
    },
    /// The fleet was changed since the caller read it.
    OtherRevision(Revision),
    /// Too many tries.
    SlowDown(Duration),
    /// The database, or another part that is needed, does not answer.
    Unavailable(String),
    /// The disk is full.
    Full,
    /// A fault of ours; the cause is in the log and nowhere else.
    Internal,
}

impl ApiError {
    /// One field with one thing wrong.
    pub(crate) fn field(name: &str, problem: impl Into<String>) -> Self {
        Self::Invalid([(name.to_owned(), vec![problem.into()])].into())
    }

    /// Logs a cause that nobody outside shall see.
    pub(crate) fn internal(doing: &str, cause: &dyn fmt::Display) -> Self {
        tracing::error!(%cause, doing, "a request failed by a fault of ours");
        Self::Internal
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "Some fields are not valid",
            Self::Malformed(_) => "The request cannot be read",
            Self::WrongType => "The body must be JSON",
            Self::NoDocument => "The body must be YAML or JSON",
            Self::TooLarge => "The body is too long",
            Self::NoLogin | Self::BadToken(_) | Self::WrongPassword => "Log in first",
            Self::Forbidden(_) => "Not allowed",
            Self::NotFound(_) => "Not found",
            Self::WrongMethod => "The method is not for this path",
            Self::Taken(_) => "Already taken",
            Self::Changed { .. } | Self::OtherRevision(_) => "Changed in the meantime",
            Self::SlowDown(_) => "Too many tries",
            Self::Unavailable(_) => "Not available now",
            Self::Full => "No space left",
            Self::Internal => "A fault of ours",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Invalid(fields) | Self::Taken(fields) => {
                let told = fields.iter().flat_map(|(name, texts)| {
                    texts.iter().map(move |text| format!("{name}: {text}"))
                });
                told.collect::<Vec<_>>().join("; ")
            }
            Self::Malformed(text)
            | Self::BadToken(text)
            | Self::Forbidden(text)
            | Self::NotFound(text)
            | Self::Unavailable(text) => text.clone(),
            Self::WrongType => "send Content-Type: application/json".to_owned(),
            Self::NoDocument => {
                "send Content-Type: application/yaml or application/json".to_owned()
            }
            Self::TooLarge => "send less than 1 MiB".to_owned(),
            Self::NoLogin => "Authentication credentials were not provided.".to_owned(),
            Self::WrongPassword => "Invalid credentials.".to_owned(),
            Self::WrongMethod => "the Allow header says which methods there are".to_owned(),
            Self::Changed { current } => format!(
                "it has version {current} now; read it again, then send If-Match: \"{current}\""
            ),
            Self::OtherRevision(revision) => format!(
                "the fleet is at revision {revision} now; look at the difference again, then send If-Match: \"{revision}\""
            ),
            Self::SlowDown(wait) => format!("try again in {} s", seconds(*wait)),
            Self::Full => "the database's disk is full; nothing was changed".to_owned(),
            Self::Internal => "the log has the cause, under this request's id".to_owned(),
        }
    }

    fn body(&self) -> Value {
        let detail = self.detail();
        let mut body = Map::new();
        if let Self::Invalid(fields) | Self::Taken(fields) = self {
            // the predecessor's callers look for a field's name at the top
            body.extend(
                fields
                    .iter()
                    .map(|(name, texts)| (name.clone(), json!(texts))),
            );
            body.insert("errors".into(), json!(fields));
        }
        if let Self::BadToken(_) = self {
            body.insert("code".into(), "token_not_valid".into());
            body.insert(
                "messages".into(),
                json!([{"token_class": "AccessToken", "token_type": "access", "message": detail}]),
            );
        }
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), self.title().into());
        body.insert("status".into(), self.status_code().as_u16().into());
        body.insert("error".into(), detail.clone().into());
        body.insert("detail".into(), detail.into());
        body.into()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::WrongType | Self::NoDocument => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoLogin | Self::BadToken(_) | Self::WrongPassword => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Taken(_) => StatusCode::CONFLICT,
            Self::Changed { .. } | Self::OtherRevision(_) => StatusCode::PRECONDITION_FAILED,
            Self::SlowDown(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        match self {
            Self::NoLogin | Self::BadToken(_) | Self::WrongPassword => {
                answer.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"api\""));
            }
            Self::SlowDown(wait) => {
                answer.insert_header((header::RETRY_AFTER, seconds(*wait)));
            }
            Self::Unavailable(_) => {
                answer.insert_header((header::RETRY_AFTER, 1));
            }
            Self::Changed { current } => {
                answer.insert_header((header::ETAG, format!("\"{current}\"")));
            }
            Self::OtherRevision(revision) => {
                answer.insert_header((header::ETAG, format!("\"{revision}\"")));
            }
            _ => {}
        }
        answer
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .content_type("application/problem+json")
            .body(self.body().to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::NotFound("Not found.".to_owned()),
            StoreError::Duplicate { field } => {
                let problem = "another one has it already".to_owned();
                Self::Taken([(field.to_owned(), vec![problem])].into())
            }
            StoreError::Conflict { current } => Self::Changed { current },
            StoreError::Invalid(invalid) => invalid.into(),
            StoreError::Unavailable => Self::Unavailable("the database does not answer".to_owned()),
            StoreError::Refused(why) => {
                tracing::error!(why, "the database does not let us in any more");
                Self::Unavailable("the database cannot be used now; the log says why".to_owned())
            }
            StoreError::Busy => Self::Unavailable("the database is busy".to_owned()),
            StoreError::Full => Self::Full,
            // the store has logged the cause
            StoreError::Newer { .. } | StoreError::Internal => Self::Internal,
        }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid.fields)
    }
}

/// Whole seconds, rounded up: a caller that waits that long is let in.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_for_old_and_new_callers() {
        let body = ApiError::field("strategy", "\"x\" is no strategy").body();
        assert_eq!(body["strategy"][0], "\"x\" is no strategy");
        assert_eq!(body["errors"]["strategy"][0], "\"x\" is no strategy");
        assert_eq!(body["status"], 400);
    }

    #[test]
    fn a_fault_of_ours_tells_nothing() {
        let error = ApiError::internal("reading nodes", &"password=hunter2");
        assert!(!error.body().to_string().contains("hunter2"));
    }

    #[test]
    fn a_wait_is_rounded_up() {
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::from_secs(3)), 3);
    }
}
