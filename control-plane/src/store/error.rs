//! What can go wrong with the truth. The kind is chosen here alone, from what the two databases say;
//! their own words go to the log and never to a client.

use diesel::ConnectionError;
use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};
use diesel_async::pooled_connection::PoolError;
use diesel_async::pooled_connection::bb8::RunError;

use crate::domain::Invalid;

/// Why the store did not do as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// Another row has this value already.
    #[error("another one has this {field} already")]
    Duplicate {
        /// The field, as the API names it.
        field: &'static str,
    },
    /// The row is not at the version that the change was made for.
    #[error("it was changed in the meantime; it is at version {current} now")]
    Conflict {
        /// Its version now.
        current: i64,
    },
    /// The change breaks a rule that only the store can judge.
    #[error("{0}")]
    Invalid(Invalid),
    /// The database cannot be reached. Whether a change that was under way took place is not known.
    #[error("the database cannot be reached")]
    Unavailable,
    /// The database answers and does not let us in: a wrong password, a database that is not there. Waiting
    /// does not help.
    #[error("the database does not let us in: {0}")]
    Refused(String),
    /// Others hold the database; the same again may do.
    #[error("the database is busy")]
    Busy,
    /// There is no room for the change; nothing of it was stored.
    #[error("the database's disk is full")]
    Full,
    /// The database was made by a later version of aivonx.
    #[error("the database is of a newer version of aivonx (migration {found}); run that one")]
    Newer {
        /// The latest migration in it that is unknown here.
        found: String,
    },
    /// A fault of the store itself: a bug, or a database that others changed. Its cause was logged.
    #[error("the store failed")]
    Internal,
}

impl StoreError {
    /// A fault, told to the log.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "the store failed");
        Self::Internal
    }
}

/// Unique columns: as Postgres names their constraint, as SQLite names the column, and as the API does.
const UNIQUE: [(&str, &str, &str); 9] = [
    ("users_name_unique", "users.name_key", "name"),
    ("nodes_name_unique", "nodes.name", "name"),
    ("nodes_slug_unique", "nodes.slug", "name"),
    ("api_keys_key_id_unique", "api_keys.key_id", "key_id"),
    ("api_keys_sha256_unique", "api_keys.sha256", "sha256"),
    (
        "personal_tokens_name_unique",
        "personal_tokens.user_id, personal_tokens.name",
        "name",
    ),
    (
        "personal_tokens_sha256_unique",
        "personal_tokens.sha256",
        "sha256",
    ),
    (
        "refresh_tokens_sha256_unique",
        "refresh_tokens.sha256",
        "sha256",
    ),
    ("signing_keys_pkey", "signing_keys.kid", "kid"),
];

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::DatabaseError(kind, info) => of_database(kind, &*info),
            other => Self::internal(&other),
        }
    }
}

fn of_database(kind: DatabaseErrorKind, info: &dyn DatabaseErrorInformation) -> StoreError {
    match kind {
        DatabaseErrorKind::UniqueViolation => duplicate(info),
        DatabaseErrorKind::ForeignKeyViolation => StoreError::NotFound,
        DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection => {
            StoreError::Unavailable
        }
        DatabaseErrorKind::SerializationFailure => StoreError::Busy,
        DatabaseErrorKind::ReadOnlyTransaction
        | DatabaseErrorKind::NotNullViolation
        | DatabaseErrorKind::CheckViolation
        | DatabaseErrorKind::RestrictViolation
        | DatabaseErrorKind::ExclusionViolation => StoreError::internal(&info.message()),
        // diesel knows no kind for these and does not pass the code on; the enum is open
        _ => of_message(info.message()),
    }
}

/// Words of SQLite's (`sqlite3_errstr`) and Postgres' errors that diesel has no kind for.
fn of_message(message: &str) -> StoreError {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["disk is full", "No space left on device", "disk I/O error"]) {
        tracing::error!(error = message, "the database cannot write");
        StoreError::Full
    } else if says(&[
        "is locked",
        "deadlock detected",
        "canceling statement",
        "lock timeout",
    ]) {
        StoreError::Busy
    } else if says(&[
        "terminating connection",
        "the database system is",
        "too many clients",
        "remaining connection slots",
        "unable to open database file",
        "recovery",
    ]) {
        tracing::warn!(error = message, "the database went away");
        StoreError::Unavailable
    } else if says(&["invalid byte sequence"]) {
        // NUL, which Postgres has no text for
        let words = "holds a character that no text may have";
        StoreError::Invalid(Invalid::of("non_field_errors", words))
    } else {
        StoreError::internal(&message)
    }
}

fn duplicate(info: &dyn DatabaseErrorInformation) -> StoreError {
    let (constraint, message) = (info.constraint_name(), info.message());
    let column = message.strip_prefix("UNIQUE constraint failed: ");
    UNIQUE
        .iter()
        .find(|(name, sqlite, _)| constraint == Some(name) || column == Some(sqlite))
        .map_or_else(
            || StoreError::internal(&message),
            |&(_, _, field)| StoreError::Duplicate { field },
        )
}

/// Words of the Postgres client's own for a URL that cannot do, for a way to log in that it does not know, and for a
/// server that does not show who it is.
const CLIENT_REFUSES: [&str; 5] = [
    "invalid configuration",
    "invalid connection string",
    "authentication error",
    "invalid peer certificate",
    "server does not support TLS",
];

/// Words of a server that cannot take anybody now.
const NOT_NOW: [&str; 7] = [
    "the database system is",
    "too many connections",
    "too many clients",
    "remaining connection slots",
    "recovery",
    "terminating connection",
    "canceling",
];

impl From<ConnectionError> for StoreError {
    /// Whether nobody answers, or somebody who does not let us in. Neither says anything of the password.
    fn from(error: ConnectionError) -> Self {
        let ConnectionError::CouldntSetupConfiguration(Error::DatabaseError(kind, info)) = &error
        else {
            tracing::warn!(%error, "the database cannot be reached");
            return Self::Unavailable;
        };
        let words = info.message();
        let says = |list: &[&str]| list.iter().any(|part| words.contains(part));
        let is_refused = match kind {
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection => {
                says(&CLIENT_REFUSES)
            }
            _ => !says(&NOT_NOW),
        };
        if is_refused {
            return Self::Refused(words.to_owned());
        }
        tracing::warn!(error = words, "the database cannot be reached");
        Self::Unavailable
    }
}

impl From<RunError> for StoreError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::TimedOut => Self::Unavailable,
            RunError::User(PoolError::ConnectionError(error)) => error.into(),
            RunError::User(PoolError::QueryError(error)) => error.into(),
        }
    }
}

impl From<Invalid> for StoreError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: DatabaseErrorKind, words: &str) -> StoreError {
        let error = Error::DatabaseError(kind, Box::new(words.to_owned()));
        ConnectionError::CouldntSetupConfiguration(error).into()
    }

    #[test]
    fn a_server_that_lets_nobody_in_now_is_told_from_one_that_never_will() {
        use DatabaseErrorKind::{UnableToSendCommand, Unknown};
        for (kind, words) in [
            (UnableToSendCommand, "error connecting to server"),
            (UnableToSendCommand, "connection closed"),
            (Unknown, "the database system is starting up"),
            (Unknown, "sorry, too many clients already"),
        ] {
            assert_eq!(of(kind, words), StoreError::Unavailable, "{words}");
        }
        for (kind, words) in [
            (
                Unknown,
                "password authentication failed for user \"aivonx\"",
            ),
            (Unknown, "database \"aivonx\" does not exist"),
            // the URL holds no password, and the server wants one
            (UnableToSendCommand, "invalid configuration"),
        ] {
            assert_eq!(of(kind, words), StoreError::Refused(words.to_owned()));
        }
    }
}
