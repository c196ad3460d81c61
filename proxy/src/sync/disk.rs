//! The last good fleet document on disk: what a data plane starts from while the bus has none or cannot
//! be reached. It is written whole or not at all, for its owner alone; secrets in it stay sealed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aivonx_shared::published::Published;

/// The name within the folder.
const NAME: &str = "fleet.json";

/// Where the last good document is kept.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// In this folder, which is made when something is written.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// The document that was kept; `None` where there is none. In words why it cannot be had.
    pub(crate) fn read(&self) -> Result<Option<Published>, String> {
        let text = match fs::read_to_string(self.path()) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let published = Published::from_json(&text);
        published
            .map(Some)
            .map_err(|error| format!("it is damaged: {error}"))
    }

    /// Keeps a document in the place of the one before.
    pub(crate) fn write(&self, published: &Published) -> std::io::Result<()> {
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(0o700).create(&self.folder)?;
        // another process may write here, too
        let fresh = format!("{NAME}.{}", std::process::id());
        replace(&self.folder, NAME, &fresh, &published.to_json())
    }
}

/// Writes a file whole in the place of the one before, for its owner alone. It is called `fresh` until
/// it is on disk.
pub(super) fn replace(folder: &Path, name: &str, fresh: &str, text: &str) -> std::io::Result<()> {
    let fresh = folder.join(fresh);
    let written = write_whole(&fresh, text)
        .and_then(|()| fs::rename(&fresh, folder.join(name)))
        // the name is on disk once its folder is
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    // what a process of this number left behind may be anybody's to read
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use aivonx_shared::revision::Revision;

    use super::*;

    fn published(number: u64) -> Published {
        Published::new(Revision::new(1, number), "{\"nodes\":[]}").unwrap()
    }

    #[test]
    fn what_is_kept_is_read_again_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().join("deep/in"));
        assert_eq!(disk.read(), Ok(None));
        for number in [1, 2] {
            disk.write(&published(number)).unwrap();
            assert_eq!(disk.read(), Ok(Some(published(number))));
        }
        let permissions = fs::metadata(disk.path()).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        let all = fs::read_dir(folder.path().join("deep/in")).unwrap();
        assert_eq!(all.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_damaged_is_no_document_and_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned());
        let whole = published(3).to_json();
        for damaged in ["", "nonsense", &whole[..whole.len() - 2], "{\"epoch\":1}"] {
            fs::write(disk.path(), damaged).unwrap();
            assert!(disk.read().is_err(), "{damaged}");
        }
        disk.write(&published(4)).unwrap();
        assert_eq!(disk.read(), Ok(Some(published(4))));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Disk::new(file.join("in")).write(&published(1)).is_err());
    }
}
