//! What a fleet document may refer to on the machine that reads it: files and variables. Passed in
//! as a value, so that who only judges a document's shape reads neither.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Secret;

/// Longest file that is read: a bundle of all public authorities has a fifth of it.
const LONGEST: u64 = 1 << 20;

/// Looks an environment variable up.
type Variable = Box<dyn Fn(&str) -> Option<String>>;

/// The machine around a document.
pub struct Outside {
    folder: PathBuf,
    variable: Variable,
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
            folder: folder.into(),
            variable: Box::new(variable),
            seen: RefCell::default(),
        }
    }

    /// The files that were asked for so far: a change of one of them is a change of the document.
    pub fn seen(&self) -> Vec<SeenFile> {
        self.seen.borrow().clone()
    }

    /// The text of a file, or in words why there is none.
    pub(super) fn file(&self, path: &Path) -> Result<Secret, String> {
        let path = self.folder.join(path);
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

    /// The value of a variable, or in words why there is none.
    pub(super) fn variable(&self, name: &str) -> Result<Secret, String> {
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
