//! Where the truth lies: `sqlite:FILE`, `sqlite::memory:` or `postgres://…`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::pg::PgServer;

/// A database's address. Printed, its password is `***`.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A Postgres server.
    Postgres(PgServer),
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A SQLite database that lives as long as its `Db`: for tests.
    Memory,
}

/// Why a text is no database's address. Repeats nothing of it but a file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Neither of the two.
    #[error("must begin with sqlite: or postgres://, as sqlite:/var/lib/aivonx/aivonx.db")]
    Scheme,
    /// `sqlite:` and nothing behind it.
    #[error("names no file; write sqlite:FILE")]
    NoFile,
    /// Not to be read as a Postgres server's.
    #[error(
        "cannot be read, or has an option that is not known; it is postgres://USER:PASSWORD@HOST:5432/DATABASE, with \
         special characters of user and password percent-encoded (`/` is %2F, `@` is %40)"
    )]
    Malformed,
    /// A way to secure connections that there is not.
    #[error(
        "has an `sslmode` that is none; it is disable, prefer, require, verify-ca or verify-full"
    )]
    SslMode,
    /// Asks for what is not built.
    #[error(
        "asks for a client certificate (`sslcert`, `sslkey`), which is not supported; use a password"
    )]
    ClientCertificate,
    /// The authorities that it names cannot be read.
    #[error("names {file} as `sslrootcert`, a file of PEM certificates or `system`: {why}")]
    Authorities {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PgServer::at(text).map(Self::Postgres);
        }
        let file = text
            .strip_prefix("sqlite:")
            .ok_or(DatabaseUrlError::Scheme)?;
        match file.strip_prefix("//").unwrap_or(file) {
            "" => Err(DatabaseUrlError::NoFile),
            ":memory:" => Ok(Self::Memory),
            file => Ok(Self::Sqlite(file.into())),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("sqlite::memory:"),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Postgres(server) => {
                let url = server.url();
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let path = path.split('?').next().unwrap_or_default();
                match authority.rsplit_once('@') {
                    None => write!(f, "postgres://{authority}{path}"),
                    Some((user, host)) => {
                        let user = user.split(':').next().unwrap_or_default();
                        write!(f, "postgres://{user}:***@{host}{path}")
                    }
                }
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_are_named_and_passwords_are_not_shown() {
        for (text, shown) in [
            ("sqlite:a.db", "sqlite:a.db"),
            ("sqlite:///var/a.db", "sqlite:/var/a.db"),
            ("sqlite://a.db", "sqlite:a.db"),
            ("sqlite::memory:", "sqlite::memory:"),
            ("postgres://u:p@h:1/d?password=p", "postgres://u:***@h:1/d"),
            ("postgresql://u:p%40@h", "postgres://u:***@h"),
            ("postgres:///d?host=/run", "postgres:///d"),
        ] {
            assert_eq!(text.parse::<DatabaseUrl>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, error) in [
            ("mysql://h", DatabaseUrlError::Scheme),
            ("sqlite:", DatabaseUrlError::NoFile),
            ("sqlite://", DatabaseUrlError::NoFile),
            ("postgres://h/d?sslmode=maybe", DatabaseUrlError::SslMode),
            ("postgres://u:hush@h/d?a=b", DatabaseUrlError::Malformed),
        ] {
            assert_eq!(text.parse::<DatabaseUrl>(), Err(error), "{text}");
        }
    }
}
