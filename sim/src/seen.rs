//! What came in: every request a node saw and what became of it, for tests to ask about.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// One request as the node saw it.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// Counts up from 0 over the node's life.
    pub number: u64,
    /// Which connection it came on, counting from 0.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The target as sent, query included.
    pub target: String,
    /// The headers in their order and spelling.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body (decoded from its transfer coding) that were read.
    pub body_len: u64,
    /// Sha256 of those bytes, hex; empty while the body is being read.
    pub body_sha256: String,
    /// The model it names, as written; empty when it names none.
    pub model: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl SeenRequest {
    /// The first value of a header, by any spelling of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Still being read or answered.
    Open,
    /// Answered to the end with this status.
    Finished(u16),
    /// The client left before the end, or the node was stopped.
    Cancelled,
    /// A fault put on the node ended it.
    Faulted,
}

/// The last requests of a node.
#[derive(Debug)]
pub(crate) struct Seen {
    /// How many are kept.
    keep: usize,
    /// Guards the list; held for a push or a look-up, never over an await.
    list: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    next: u64,
    requests: VecDeque<SeenRequest>,
}

impl Seen {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            keep,
            list: Mutex::default(),
        }
    }

    /// Whether anything is kept at all.
    pub(crate) fn on(&self) -> bool {
        self.keep > 0
    }

    /// Notes a request, if any are kept, and gives its number.
    pub(crate) fn open(&self, request: impl FnOnce() -> SeenRequest) -> u64 {
        let mut log = self.list.lock();
        let number = log.next;
        log.next += 1;
        if !self.on() {
            return number;
        }
        if log.requests.len() >= self.keep {
            log.requests.pop_front();
        }
        log.requests.push_back(SeenRequest {
            number,
            ..request()
        });
        number
    }

    /// Changes a noted request, if it is still kept.
    pub(crate) fn update(&self, number: u64, change: impl FnOnce(&mut SeenRequest)) {
        let mut log = self.list.lock();
        let Some(first) = log.requests.front().map(|r| r.number) else {
            return;
        };
        if let Some(at) = number.checked_sub(first)
            && let Some(request) = log.requests.get_mut(at as usize)
        {
            change(request);
        }
    }

    pub(crate) fn all(&self) -> Vec<SeenRequest> {
        self.list.lock().requests.iter().cloned().collect()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.list
            .lock()
            .requests
            .iter()
            .filter(|r| r.path == path)
            .count()
    }
}

/// Marks its request as cancelled unless told otherwise, however the work on it ends.
pub(crate) struct OpenRequest<'a> {
    seen: &'a Seen,
    pub(crate) number: u64,
    outcome: Outcome,
}

impl<'a> OpenRequest<'a> {
    pub(crate) fn new(seen: &'a Seen, request: impl FnOnce() -> SeenRequest) -> Self {
        Self {
            seen,
            number: seen.open(request),
            outcome: Outcome::Cancelled,
        }
    }

    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome;
        self.seen.update(self.number, |r| r.outcome = outcome);
    }
}
