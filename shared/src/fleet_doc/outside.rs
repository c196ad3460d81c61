//! What a fleet document needs of the machine that reads it: the files and variables that it refers
//! to, and the key for what is sealed in it. Passed in as a value, so that who only judges a document's
//! shape needs none of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Secret;
use crate::sealed::{self, KEY_VARIABLE, SealKey};

/// Longest file that is read: a bundle of all public authorities has a fifth of it.
const LONGEST: u64 = 1 << 20;

const NOT_HERE: &str = "names a file or a variable, which only a fleet file may";

const NOT_STORED: &str = "names a secret that only the control plane which exported it can look up; \
                          write it as text, `{file: FILE}` or `{env: NAME}`";

/// Looks an environment variable up.
type Variable = Box<dyn Fn(&str) -> Option<String>>;

/// The machine around a document.
pub struct Outside {
    /// Where names of files begin; `None` where no file and no variable is for the document.
    folder: Option<PathBuf>,
    variable: Variable,
    key: Option<SealKey>,
    /// What `{stored: NAME}` stands for, sealed; `None` where the document is not for a database.
    stored: Option<BTreeMap<String, String>>,
    seen: RefCell<Vec<SeenFile>>,
}

/// A file that was asked for, found or not.
#[derive(Debug, Clone)]
pub struct SeenFile {
    path: PathBuf,
    /// Taken before it was read, so that a change in between is not missed.
    stamp: Option<Stamp>,
}

/// Tells one state of a file from the next: which file, its length, when it was written.
type Stamp = (u64, u64, i64, i64);

impl SeenFile {
    fn now(path: &Path) -> Self {
        let data = std::fs::metadata(path).ok();
        let stamp =
            |data: std::fs::Metadata| (data.ino(), data.len(), data.mtime(), data.mtime_nsec());
        Self {
            path: path.to_owned(),
            stamp: data.map(stamp),
        }
    }

    /// Whether it is another than it was, there or not there.
    pub fn has_changed(&self) -> bool {
        Self::now(&self.path).stamp != self.stamp
    }
}

impl Outside {
    /// Names of files are relative to `folder`; `variable` looks an environment variable up.
    pub fn new(
        folder: impl Into<PathBuf>,
        variable: impl Fn(&str) -> Option<String> + 'static,
    ) -> Self {
        Self {
            folder: Some(folder.into()),
            variable: Box::new(variable),
            key: None,
            stored: None,
            seen: RefCell::default(),
        }
    }

    /// For a document that came from elsewhere: it may hold what is sealed, but name neither files nor
    /// variables. Who can write it must not be able to have this machine's secrets sent to a node.
    pub fn sealed_only(key: Option<SealKey>) -> Self {
        Self {
            folder: None,
            variable: Box::new(|_| None),
            key,
            stored: None,
            seen: RefCell::default(),
        }
    }

    /// The same with what `{stored: NAME}` stands for: sealed texts, by their names.
    #[must_use]
    pub fn with_stored(mut self, stored: BTreeMap<String, String>) -> Self {
        self.stored = Some(stored);
        self
    }

    /// The files that were asked for so far: a change of one of them is a change of the document.
    pub fn seen(&self) -> Vec<SeenFile> {
        self.seen.borrow().clone()
    }

    /// The text of a file, or in words why there is none.
    pub(super) fn file(&self, path: &Path) -> Result<Secret, String> {
        let folder = self.folder.as_ref().ok_or(NOT_HERE)?;
        let path = folder.join(path);
        self.seen.borrow_mut().push(SeenFile::now(&path));
        let read = || {
            let mut text = String::new();
            File::open(&path)?.take(LONGEST).read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        match read() {
            Ok(text) if text.trim().is_empty() => Err(format!("{} is empty", path.display())),
            Ok(text) => Ok(Secret::new(text.trim())),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// What a sealed text says, or in words why it stays closed.
    pub(super) fn open(&self, text: &str) -> Result<Secret, String> {
        let Some(key) = &self.key else {
            return Err(format!(
                "is sealed, and there is no key: set {KEY_VARIABLE}"
            ));
        };
        sealed::open(key, text).map_err(|error| error.to_string())
    }

    /// The secret that a database keeps under a name, or in words why it cannot be had.
    pub(super) fn stored(&self, name: &str) -> Result<Secret, String> {
        let Some(stored) = &self.stored else {
            return Err(NOT_STORED.to_owned());
        };
        match stored.get(name) {
            Some(sealed) => self.open(sealed),
            None => Err(format!(
                "no secret `{name}` is stored here; write it as text"
            )),
        }
    }

    /// The value of a variable, or in words why there is none.
    pub(super) fn variable(&self, name: &str) -> Result<Secret, String> {
        if self.folder.is_none() {
            return Err(NOT_HERE.to_owned());
        }
        match (self.variable)(name) {
            Some(text) if !text.trim().is_empty() => Ok(Secret::new(text.trim())),
            _ => Err(format!("the environment variable {name} is not set")),
        }
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}
