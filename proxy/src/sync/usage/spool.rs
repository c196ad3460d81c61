//! What waits to be stored. A batch grows until it is due to be sent; from then on its id and what it
//! holds stay as they are, because the other side may have it although nobody said so. It is forgotten
//! once it is known to be stored. Everything that waits is in memory and, where there is a folder, on
//! disk: there before it is sent, so that a process which dies leaves behind what it sent, under the
//! same id.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::usage_batch::{UsageBatch, UsageEntry};

use super::folder::{Folder, Found, SUFFIX};
use super::growing::{Growing, requests};

/// Batches that were sent and are not known to be stored, at most. What is counted meanwhile is added
/// to the one that grows.
pub(super) const WINDOW: usize = 32;
/// The wait for an answer doubles with every sending, so many times.
const DOUBLINGS: u32 = 6;
/// A batch is given up after this, seconds: the control plane remembers twice as long which batches it
/// stored, so none of them counts twice.
const KEPT_FOR: u64 = 30 * 24 * 3600;
/// Digits of the time with which a file's name begins.
const DIGITS: usize = 10;

/// What waits to be stored.
pub(super) struct Spool {
    instance: String,
    /// What the ids of its batches begin with: no other process has it, not even a later one.
    prefix: String,
    /// Batches that were begun.
    begun: u64,
    growing: Growing,
    /// How the growing batch is kept; `None` while it is empty.
    grows_as: Option<Kept>,
    /// Those that do not grow any more, the oldest first.
    closed: Vec<Kept>,
    folder: Option<Folder>,
    /// How much may wait, bytes.
    most: u64,
    /// How long a batch that was sent may take to be stored before it is sent again.
    patience: Duration,
    /// Requests in batches that were given up, since it was asked last.
    lost: u64,
    disk_fails: bool,
    /// Whether it could not be seen what others left behind.
    look_fails: bool,
}

/// A batch and what became of it.
struct Kept {
    batch: Arc<UsageBatch>,
    /// Its file's name.
    file: String,
    /// When it began, seconds since 1970.
    began: u64,
    bytes: u64,
    /// Whether the file holds it as it is.
    is_saved: bool,
    sent: Option<Sent>,
}

/// A batch was sent, or it was tried.
#[derive(Clone, Copy)]
struct Sent {
    times: u32,
    /// When it is sent again.
    again: Instant,
}

impl Spool {
    /// An empty one. `started` tells this process from others of its name, `state` is where it may
    /// keep files.
    pub(super) fn new(instance: &str, started: u64, state: Option<&Path>) -> Self {
        let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "-_.".contains(*letter);
        let plain: String = instance.chars().filter(is_plain).collect();
        let prefix = format!("{plain}-{started:x}");
        Self {
            instance: instance.to_owned(),
            folder: state.map(|state| Folder::new(state, &prefix)),
            prefix,
            begun: 0,
            growing: Growing::default(),
            grows_as: None,
            closed: Vec::new(),
            most: 16 << 20,
            patience: Duration::from_secs(60),
            lost: 0,
            disk_fails: false,
            look_fails: false,
        }
    }

    /// Bounds of what waits, in bytes, and of how long a batch may take to be stored.
    pub(super) fn with_bounds(mut self, most: u64, patience: Duration) -> Self {
        (self.most, self.patience) = (most, patience);
        self
    }

    /// Adds what was counted, and keeps it. `now` is in seconds since 1970.
    pub(super) fn gather(&mut self, now: u64, counted: Vec<UsageEntry>) {
        for entry in counted {
            if self.growing.is_full() {
                self.close();
            }
            self.growing.add(entry);
            let grows_as = self.grows_as.get_or_insert_with(|| {
                self.begun += 1;
                Kept::begin(&self.prefix, self.begun, now)
            });
            grows_as.is_saved = false;
        }
        self.save();
        self.give_up(now);
    }

    /// Takes over what processes that are gone left on disk.
    pub(super) fn take_over(&mut self, now: u64) {
        let Some(folder) = &mut self.folder else {
            return;
        };
        match folder.take_over() {
            Ok(found) => {
                self.look_fails = false;
                for found in found {
                    self.keep(found, now);
                }
                self.closed.sort_by_key(|kept| kept.began);
                self.give_up(now);
            }
            Err(error) if !self.look_fails => {
                self.look_fails = true;
                tracing::error!(%error, "it cannot be seen whether other processes left usage behind");
            }
            Err(_) => {}
        }
    }

    /// The batches that are to be sent now. From here on they stay as they are.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Arc<UsageBatch>> {
        let under_way = self.sent().count();
        let mut room = WINDOW.saturating_sub(under_way);
        let waiting = self.closed.len() - under_way;
        if room > waiting {
            self.close();
        }
        let mut due = Vec::new();
        for kept in &mut self.closed {
            let is_due = match kept.sent {
                Some(sent) => sent.again <= now,
                None if room == 0 => false,
                None => {
                    room -= 1;
                    true
                }
            };
            if is_due {
                kept.send(now, self.patience);
                due.push(Arc::clone(&kept.batch));
            }
        }
        due
    }

    /// The ids of those that were sent.
    pub(super) fn under_way(&self) -> Vec<String> {
        self.sent().map(|kept| kept.batch.id.clone()).collect()
    }

    /// Forgets what is stored.
    pub(super) fn stored(&mut self, ids: &[String]) {
        let is_stored = |kept: &mut Kept| ids.contains(&kept.batch.id);
        let stored: Vec<_> = self.closed.extract_if(.., is_stored).collect();
        for kept in stored {
            self.forget(&kept);
        }
    }

    /// The other side did not answer, and may have forgotten everything: all is sent again.
    pub(super) fn is_away(&mut self, now: Instant) {
        for sent in self.closed.iter_mut().filter_map(|kept| kept.sent.as_mut()) {
            sent.again = now;
        }
    }

    /// Batches that wait.
    pub(super) fn len(&self) -> usize {
        self.closed.len() + usize::from(self.grows_as.is_some())
    }

    /// Requests in what waits and is not on disk.
    pub(super) fn unsaved(&self) -> u64 {
        let all = self.closed.iter().chain(&self.grows_as);
        let unsaved = all.filter(|kept| !kept.is_saved);
        unsaved.map(|kept| requests(&kept.batch)).sum()
    }

    /// Requests that were given up since it was asked last.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn sent(&self) -> impl Iterator<Item = &Kept> {
        self.closed.iter().filter(|kept| kept.sent.is_some())
    }

    /// The growing batch grows no more.
    fn close(&mut self) {
        self.save();
        self.growing = Growing::default();
        self.closed.extend(self.grows_as.take());
    }

    /// Writes what the disk does not hold as it is.
    fn save(&mut self) {
        if let Some(kept) = self.grows_as.as_mut().filter(|kept| !kept.is_saved) {
            let (id, instance) = (kept.batch.id.clone(), self.instance.clone());
            kept.batch = Arc::new(self.growing.batch(id, instance));
            kept.bytes = text(&kept.batch).len() as u64;
        }
        let Some(folder) = &mut self.folder else {
            return;
        };
        let mut done = None;
        let all = self.closed.iter_mut().chain(&mut self.grows_as);
        for kept in all.filter(|kept| !kept.is_saved) {
            let written = folder.write(&kept.file, &text(&kept.batch));
            kept.is_saved = written.is_ok();
            let has_failed = written.is_err();
            done = Some(written);
            if has_failed {
                break; // the others would, too
            }
        }
        if let Some(done) = done {
            self.disk(done);
        }
    }

    /// Takes a batch that was left behind. What is none is removed.
    fn keep(&mut self, found: Found, now: u64) {
        let Found { file, text } = found;
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(file, %error, "usage that was kept cannot be read; the next start tries again");
                return;
            }
        };
        match serde_json::from_slice::<UsageBatch>(&text) {
            Ok(batch) => {
                let began = file.get(..DIGITS).and_then(|digits| digits.parse().ok());
                self.closed.push(Kept {
                    batch: Arc::new(batch),
                    file,
                    began: began.unwrap_or(now),
                    bytes: text.len() as u64,
                    is_saved: true,
                    sent: None,
                });
            }
            Err(error) => {
                tracing::error!(file, %error, "usage that was kept is damaged and is lost");
                if let Some(folder) = &self.folder {
                    let _ = folder.remove(&file); // it is looked at again by the next process at worst
                }
            }
        }
    }

    /// Gives up the oldest while there is too much, and what is too old.
    fn give_up(&mut self, now: u64) {
        let all = self.closed.iter().chain(&self.grows_as);
        let mut bytes: u64 = all.map(|kept| kept.bytes).sum();
        let mut surplus = 0;
        for kept in &self.closed {
            if bytes <= self.most && now.saturating_sub(kept.began) <= KEPT_FOR {
                break;
            }
            bytes -= kept.bytes;
            surplus += 1;
        }
        for kept in self.closed.drain(..surplus).collect::<Vec<_>>() {
            self.lost += requests(&kept.batch);
            self.forget(&kept);
        }
    }

    fn forget(&mut self, kept: &Kept) {
        if let Some(folder) = &self.folder
            && let Err(error) = folder.remove(&kept.file)
        {
            // it is sent once more by the next process, and known there by its id
            self.disk(Err(error));
        }
    }

    /// Says when the disk begins to fail, and when it stops.
    fn disk(&mut self, done: std::io::Result<()>) {
        let fails = done.is_err();
        match done {
            Err(error) if !self.disk_fails => {
                tracing::error!(%error, "usage cannot be kept on disk; it is kept in memory");
            }
            Ok(()) if self.disk_fails => tracing::info!("usage is kept on disk again"),
            _ => {}
        }
        self.disk_fails = fails;
    }
}

impl Kept {
    fn begin(prefix: &str, number: u64, now: u64) -> Self {
        let id = format!("{prefix}-{number}");
        let file = format!("{now:0DIGITS$}-{id}{SUFFIX}");
        let batch = UsageBatch {
            id,
            instance: String::new(),
            entries: Vec::new(),
        };
        Self {
            batch: Arc::new(batch),
            file,
            began: now,
            bytes: 0,
            is_saved: false,
            sent: None,
        }
    }

    fn send(&mut self, now: Instant, patience: Duration) {
        let times = self.sent.map_or(0, |sent| sent.times);
        let again = now + patience * (1 << times.min(DOUBLINGS));
        self.sent = Some(Sent {
            times: times + 1,
            again,
        });
    }
}

/// As it stands on disk.
fn text(batch: &UsageBatch) -> String {
    serde_json::to_string(batch).expect("texts and numbers are JSON")
}
