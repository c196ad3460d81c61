//! Logins on this machine: `AIVONX_TOKEN`, or what `aivonx login` left in a file of the user's own
//! (`$XDG_CONFIG_HOME/aivonx/credentials.json`), a token for each server.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aivonx_shared::fleet_doc::Secret;
use serde_json::{Value, json};

use super::failure::Failure;

/// A login as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) token: Secret,
    /// Which of the user's tokens it is.
    pub(super) id: i64,
}

/// The file of logins.
#[derive(Debug)]
pub(super) struct Credentials {
    path: PathBuf,
    servers: BTreeMap<String, Login>,
}

/// The token for a server: the environment's, or that of a login there.
pub(super) fn token(server: &str) -> Result<Option<Secret>, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    if let Some(token) = variable("AIVONX_TOKEN") {
        return Ok(Some(Secret::new(token)));
    }
    if let Some(file) = variable("AIVONX_TOKEN_FILE").map(PathBuf::from) {
        let text = fs::read_to_string(&file).map_err(|error| Failure::reading(&file, &error))?;
        return Ok(Some(Secret::new(text.trim())));
    }
    let Some(path) = path() else {
        return Ok(None);
    };
    let mut credentials = Credentials::open(path)?;
    Ok(credentials.take(server).map(|login| login.token))
}

/// The user's own file; `None` where the user has no home.
pub(super) fn path() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = folder("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| folder("HOME").map(|home| PathBuf::from(home).join(".config")));
    base.map(|base| base.join("aivonx/credentials.json"))
}

impl Credentials {
    /// Reads the file; one that is not there holds nothing.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let mode = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let servers = BTreeMap::new();
                return Ok(Self { path, servers });
            }
            Err(error) => return Err(Failure::reading(&path, &error)),
        };
        if mode & 0o077 != 0 {
            return Err(Failure::Config(format!(
                "{0}: others on this machine can read your logins: chmod 600 {0}",
                path.display()
            )));
        }
        let text = fs::read_to_string(&path).map_err(|error| Failure::reading(&path, &error))?;
        let servers = read(&text).ok_or_else(|| {
            let words = "is not as `aivonx login` writes it; remove it and log in again";
            Failure::Config(format!("{}: {words}", path.display()))
        })?;
        Ok(Self { path, servers })
    }

    /// Keeps a login in the place of the one before.
    pub(super) fn put(&mut self, server: &str, login: Login) {
        self.servers.insert(server.to_owned(), login);
    }

    /// Takes a login out.
    pub(super) fn take(&mut self, server: &str) -> Option<Login> {
        self.servers.remove(server)
    }

    /// Writes the file whole, for its owner alone.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let write = || {
            let mut make = DirBuilder::new();
            make.recursive(true).mode(0o700).create(folder)?;
            // a temporary file is its owner's alone, and so is what it becomes
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            writeln!(file, "{:#}", self.json())?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().map_err(|error| Failure::writing(&self.path, &error))
    }

    fn json(&self) -> Value {
        let servers = self.servers.iter().map(|(server, login)| {
            let Login { user, token, id } = login;
            let login = json!({"user": user, "token": token.reveal(), "token_id": id});
            (server.clone(), login)
        });
        json!({"servers": servers.collect::<serde_json::Map<_, _>>()})
    }
}

fn read(text: &str) -> Option<BTreeMap<String, Login>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let servers = value["servers"].as_object()?.iter();
    let login = |login: &Value| {
        Some(Login {
            user: login["user"].as_str()?.to_owned(),
            token: Secret::new(login["token"].as_str()?),
            id: login["token_id"].as_i64()?,
        })
    };
    servers
        .map(|(server, kept)| Some((server.clone(), login(kept)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(token: &str) -> Login {
        Login {
            user: "root".to_owned(),
            token: Secret::new(token),
            id: 7,
        }
    }

    #[test]
    fn logins_are_kept_by_server_and_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aivonx/credentials.json");
        let mut kept = Credentials::open(path.clone()).unwrap();
        kept.put("http://a", login("avp_1"));
        kept.put("http://b", login("avp_2"));
        kept.put("http://a", login("avp_3"));
        kept.save().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(!format!("{kept:?}").contains("avp_"));
        let mut read = Credentials::open(path.clone()).unwrap();
        assert_eq!(read.take("http://a"), Some(login("avp_3")));
        assert_eq!(read.take("http://a"), None);
        read.save().unwrap();
        let mut read = Credentials::open(path).unwrap();
        assert_eq!(read.take("http://b"), Some(login("avp_2")));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_makes_no_sense_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        for (text, mode, said) in [
            ("{\"servers\":{}}", 0o644, "chmod 600"),
            ("{\"servers\":{\"http://a\":{}}}", 0o600, "log in again"),
            ("junk", 0o600, "log in again"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let failure = Credentials::open(path.clone()).unwrap_err();
            assert!(failure.to_string().contains(said), "{failure}");
            assert_eq!(failure.code(), 78);
        }
    }
}
