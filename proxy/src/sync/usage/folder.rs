//! Batches on disk. Each process has a folder of its own below `usage/` and holds its lock, so that nobody
//! takes a batch that still grows; what a process that is gone left behind is taken over by the next one
//! that looks. The lock of `usage/` itself is held while folders are made and taken over.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sync::disk::replace;

/// The name of the locks.
const LOCK: &str = "lock";
/// What the names of batches end with.
pub(super) const SUFFIX: &str = ".json";
/// Between two tries to get the lock of all folders, and how many there are: it is held for moments.
const BETWEEN: Duration = Duration::from_millis(10);
const TRIES: u32 = 50;

/// The folder of one process.
#[derive(Debug)]
pub(super) struct Folder {
    /// The folder of all processes.
    root: PathBuf,
    /// The name of this one's.
    name: String,
    /// Its lock, once it is made. Held for as long as the process lives.
    lock: Option<File>,
}

/// A batch that was left behind, now in this process' folder.
pub(super) struct Found {
    pub(super) file: String,
    pub(super) text: io::Result<Vec<u8>>,
}

impl Folder {
    /// That of the process called `instance`, in a folder for state. It is made when it is needed.
    pub(super) fn new(state: &Path, instance: &str) -> Self {
        Self {
            root: state.join("usage"),
            name: instance.to_owned(),
            lock: None,
        }
    }

    /// Writes a batch whole, in the place of what this file held.
    pub(super) fn write(&mut self, file: &str, text: &str) -> io::Result<()> {
        let own = self.own()?;
        replace(&own, file, &format!("{file}.new"), text)
    }

    /// Removes a batch; one that is gone already is no error.
    pub(super) fn remove(&self, file: &str) -> io::Result<()> {
        match fs::remove_file(self.path().join(file)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Moves here what processes that are gone left behind.
    pub(super) fn take_over(&mut self) -> io::Result<Vec<Found>> {
        let others = self.others()?;
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.own()?;
        let _all = lock_of_all(&self.root)?;
        let (mut files, mut failed) = (Vec::new(), None);
        for other in others {
            if let Err(error) = move_all(&other, &own, &mut files) {
                failed = Some(error); // the others all the same
            }
        }
        match failed {
            Some(error) if files.is_empty() => Err(error),
            _ => Ok(files.into_iter().map(|file| read(&own, file)).collect()),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The folders of other processes.
    fn others(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let own = self.path();
        Ok(paths.filter(|path| *path != own && path.is_dir()).collect())
    }

    /// Makes this process' folder where it is not there, and holds it.
    fn own(&mut self) -> io::Result<PathBuf> {
        let own = self.path();
        if self.lock.is_some() && own.is_dir() {
            return Ok(own);
        }
        self.lock = None;
        make(&self.root)?;
        let _all = lock_of_all(&self.root)?;
        make(&own)?;
        let lock = open_lock(&own)?;
        if !is_mine(&lock)? {
            return Err(Error::other("another process holds this one's folder"));
        }
        self.lock = Some(lock);
        Ok(own)
    }
}

fn make(folder: &Path) -> io::Result<()> {
    let mut folders = DirBuilder::new();
    folders.recursive(true).mode(0o700).create(folder)
}

fn open_lock(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(folder.join(LOCK))
}

/// Whether nobody else holds a lock, which is held from now on.
fn is_mine(lock: &File) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits a little for it: a process that was stopped while it held it must not stop this one.
fn lock_of_all(root: &Path) -> io::Result<File> {
    let lock = open_lock(root)?;
    for _ in 0..TRIES {
        if is_mine(&lock)? {
            return Ok(lock);
        }
        std::thread::sleep(BETWEEN);
    }
    Err(Error::other(
        "another process holds the lock of all folders",
    ))
}

/// Moves the batches of a process that is gone; of one that lives nothing.
fn move_all(other: &Path, own: &Path, files: &mut Vec<String>) -> io::Result<()> {
    let lock = open_lock(other)?;
    if !is_mine(&lock)? {
        return Ok(());
    }
    for entry in fs::read_dir(other)? {
        let name = entry?.file_name();
        let Some(file) = name.to_str().filter(|file| file.ends_with(SUFFIX)) else {
            continue;
        };
        fs::rename(other.join(file), own.join(file))?;
        files.push(file.to_owned());
    }
    // with its lock and what it did not write to the end
    fs::remove_dir_all(other)
}

fn read(own: &Path, file: String) -> Found {
    let text = fs::read(own.join(&file));
    Found { file, text }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(folder: &mut Folder) -> Vec<(String, String)> {
        let found = folder.take_over().unwrap().into_iter();
        let mut found: Vec<_> = found
            .map(|found| (found.file, String::from_utf8(found.text.unwrap()).unwrap()))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn what_is_left_behind_is_taken_over_once_and_never_from_a_living_process() {
        let state = tempfile::tempdir().unwrap();
        let mut first = Folder::new(state.path(), "first");
        first.write("1.json", "one").unwrap();
        first.write("1.json", "more").unwrap();
        first.write("2.json", "two").unwrap();
        first.write("3.json", "three").unwrap();
        first.remove("3.json").unwrap();
        first.remove("3.json").unwrap();
        fs::write(state.path().join("usage/first/4.json.new"), "hal").unwrap();
        let mut second = Folder::new(state.path(), "second");
        assert!(found(&mut second).is_empty(), "the first still lives");
        drop(first);
        let both = [("1.json", "more"), ("2.json", "two")];
        let both = both.map(|(file, text)| (file.to_owned(), text.to_owned()));
        assert_eq!(found(&mut second), both);
        assert!(found(&mut second).is_empty());
        assert!(!state.path().join("usage/first").exists());

        drop(second);
        assert_eq!(found(&mut Folder::new(state.path(), "third")), both);
    }

    #[test]
    fn it_is_for_its_owner_alone_and_made_again_where_somebody_removed_it() {
        let state = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(state.path(), "a");
        folder.write("1.json", "one").unwrap();
        let mode = |path: &str| {
            let path = state.path().join(path);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("usage/a"), 0o700);
        assert_eq!(mode("usage/a/1.json"), 0o600);
        fs::remove_dir_all(state.path().join("usage")).unwrap();
        folder.write("1.json", "one").unwrap();
        assert!(found(&mut Folder::new(state.path(), "b")).is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("usage"), "").unwrap();
        assert!(Folder::new(state.path(), "a").write("1.json", "").is_err());
    }
}
