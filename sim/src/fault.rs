//! What can be made to go wrong on a node, for which requests and how often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;

/// Something that goes wrong. Durations are node time. [`Fault::Refuse`] and [`Fault::Blackhole`]
/// are of the whole node, whatever their scope, until cleared.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Nobody listens: connections are refused and idle ones closed. Streams run on.
    Refuse,
    /// As after a power cut: connections are accepted by the kernel and nothing is ever said,
    /// on old connections either. When cleared, those connections are reset.
    Blackhole,
    /// A new connection is reset at once.
    ResetOnAccept,
    /// The request is read and no head ever comes.
    Hang,
    /// An error of the server in the route's dialect; without a text, one that names the runner.
    Status {
        /// The status, such as 500 or 503.
        code: u16,
        /// The error's text.
        #[serde(default)]
        message: Option<String>,
    },
    /// The same, sent before the body has been read; the connection is closed after it.
    StatusBeforeBody {
        /// The status.
        code: u16,
        /// The error's text.
        #[serde(default)]
        message: Option<String>,
    },
    /// A reset (RST) after this many bytes of the request's body.
    ResetWhileReading {
        /// Bytes read before.
        bytes: usize,
    },
    /// A reset (RST) instead of chunk number `chunks`, counting from 0: 0 resets before the head.
    /// An answer that does not stream is cut in its middle.
    ResetMidStream {
        /// Chunks sent before.
        chunks: usize,
    },
    /// The connection ends (FIN) in the middle of chunk number `chunks`.
    Truncate {
        /// Whole chunks sent before.
        chunks: usize,
    },
    /// The answer ends well for HTTP and without the dialect's last line.
    EndWithoutDone {
        /// Chunks sent before.
        chunks: usize,
    },
    /// Nothing more comes after this many chunks.
    StallMidStream {
        /// Chunks sent before.
        chunks: usize,
    },
    /// Every chunk comes this much later.
    SlowChunks {
        /// Node milliseconds before each chunk.
        millis: u64,
    },
    /// The whole answer comes this much later.
    Delay {
        /// Node milliseconds.
        millis: u64,
    },
    /// Bytes that are not HTTP.
    Garbage,
    /// One token is this long.
    HugeLine {
        /// Bytes of its text.
        bytes: usize,
    },
    /// The answer is labelled with this type.
    WrongContentType {
        /// The label.
        value: String,
    },
}

impl Fault {
    /// A 500 that names the runner.
    pub fn error_500() -> Self {
        Self::Status {
            code: 500,
            message: None,
        }
    }

    /// The 503 of a full queue.
    pub fn busy_503() -> Self {
        Self::Status {
            code: 503,
            message: Some(crate::sched::BUSY.into()),
        }
    }

    /// Whether it is about the node rather than about single requests.
    fn is_of_the_node(&self) -> bool {
        matches!(self, Self::Refuse | Self::Blackhole)
    }

    /// Whether it acts before a body is read.
    pub(crate) fn is_early(&self) -> bool {
        matches!(
            self,
            Self::StatusBeforeBody { .. } | Self::ResetWhileReading { .. }
        )
    }
}

/// Which requests a fault is for. The default is: all, until cleared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct FaultScope {
    /// Only the next so many requests that fit.
    pub times: Option<usize>,
    /// Only this path.
    pub path: Option<String>,
    /// Only this model, as the request writes it, with or without `:latest`.
    pub model: Option<String>,
    /// Only requests that run a model.
    pub inference: bool,
}

impl FaultScope {
    /// All requests, until cleared.
    pub fn always() -> Self {
        Self::default()
    }

    /// The next `n` requests.
    pub fn next(n: usize) -> Self {
        Self {
            times: Some(n),
            ..Self::default()
        }
    }

    /// Only so many requests.
    #[must_use]
    pub fn times(mut self, n: usize) -> Self {
        self.times = Some(n);
        self
    }

    /// Only this path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Only this model.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Only requests that run a model, so that `GET /` answers on.
    #[must_use]
    pub fn inference(mut self) -> Self {
        self.inference = true;
        self
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        self.path.as_deref().is_none_or(|p| p == asked.path)
            && (!self.inference || asked.inference)
            && self.model.as_deref().is_none_or(|m| {
                asked.model.is_some_and(|a| {
                    a == m
                        || a.strip_suffix(":latest") == Some(m)
                        || m.strip_suffix(":latest") == Some(a)
                })
            })
    }
}

/// What is known of a request when faults are looked up.
pub(crate) struct Asked<'a> {
    pub(crate) path: &'a str,
    pub(crate) inference: bool,
    pub(crate) model: Option<&'a str>,
}

/// The faults put on a node.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Spares the lock while there are none.
    any: AtomicBool,
    armed: Mutex<Vec<(Fault, FaultScope)>>,
    /// The state of the node as a whole; changes are awaited by the listener and by connections.
    state: watch::Sender<NodeState>,
}

/// How the node as a whole behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeState {
    pub(crate) refuse: bool,
    pub(crate) dark: bool,
    /// Until [`crate::SimNode::restart`].
    pub(crate) stopped: bool,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            armed: Mutex::default(),
            state: watch::Sender::new(NodeState::default()),
        }
    }

    pub(crate) fn arm(&self, fault: Fault, scope: FaultScope) {
        if fault.is_of_the_node() {
            self.state.send_modify(|s| match fault {
                Fault::Refuse => s.refuse = true,
                _ => s.dark = true,
            });
            return;
        }
        self.armed.lock().push((fault, scope));
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.any.store(false, Ordering::Release);
        self.armed.lock().clear();
        self.state.send_modify(|s| {
            s.refuse = false;
            s.dark = false;
        });
    }

    pub(crate) fn set_stopped(&self, stopped: bool) {
        self.state.send_modify(|s| s.stopped = stopped);
    }

    /// Takes the first fault that `wanted` accepts and whose scope fits, counting it down.
    pub(crate) fn take(&self, asked: &Asked<'_>, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut armed = self.armed.lock();
        let at = armed
            .iter()
            .position(|(fault, scope)| wanted(fault) && scope.fits(asked))?;
        let (fault, scope) = &mut armed[at];
        let taken = fault.clone();
        if let Some(left) = &mut scope.times {
            *left = left.saturating_sub(1);
            if *left == 0 {
                armed.remove(at);
            }
        }
        Some(taken)
    }

    pub(crate) fn state(&self) -> NodeState {
        *self.state.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<NodeState> {
        self.state.subscribe()
    }
}

/// Node milliseconds as a duration.
pub(crate) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
