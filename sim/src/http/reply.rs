//! One answer, framed as Go's response writer frames it.
//!
//! What a handler writes is kept until it flushes. A handler that ends without a flush and with at
//! most 2048 bytes gets a Content-Length; otherwise the answer is chunked, one chunk a flush.
//! Faults of the stream act here, because here is where chunks are counted.

use std::io::Write as _;
use std::time::Duration;

use super::conn::Conn;
use super::head::Head;
use crate::clock::Clock;
use crate::fault::{Fault, Faults, millis};

/// Go's buffer: longer answers are chunked.
const GO_BUFFER: usize = 2048;

/// Why an answer cannot go on. The handler returns it up at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The connection is gone, or is to be closed now.
    Closed,
    /// A fault ended the answer cleanly; the connection lives on.
    Ended,
}

/// What a handler gives back: it wrote its answer, or could not.
pub(crate) type Written = Result<(), Stop>;

/// The answer to one request.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of one exchange, each read alone"
)]
pub(crate) struct Reply<'a> {
    conn: &'a Conn,
    faults: &'a Faults,
    clock: &'a Clock,
    head_only: bool,
    old: bool,
    keep_alive: bool,
    pub(crate) status: u16,
    headers: Vec<(&'static str, String)>,
    /// Written and not yet flushed.
    pub(crate) out: Vec<u8>,
    /// The frame being sent; kept for its memory.
    frame: Vec<u8>,
    started: bool,
    finished: bool,
    chunks: usize,
    fault: Option<Fault>,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(conn: &'a Conn, head: &Head, faults: &'a Faults, clock: &'a Clock) -> Self {
        Self {
            conn,
            faults,
            clock,
            head_only: head.method == "HEAD",
            old: head.old,
            keep_alive: head.keeps_alive(),
            status: 200,
            headers: Vec::with_capacity(4),
            out: Vec::new(),
            frame: Vec::new(),
            started: false,
            finished: false,
            chunks: 0,
            fault: None,
        }
    }

    /// Arms a fault of this stream.
    pub(crate) fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// The size of a huge token, if a fault asks for one.
    pub(crate) fn huge_token(&self) -> Option<usize> {
        match self.fault {
            Some(Fault::HugeLine { bytes }) => Some(bytes),
            _ => None,
        }
    }

    /// Says `Connection: close` and means it.
    pub(crate) fn close_after(&mut self) {
        self.keep_alive = false;
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the head is on its way.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// Sets a header, replacing what it was.
    pub(crate) fn header(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.retain(|(n, _)| *n != name);
        self.headers.push((name, value.into()));
    }

    /// Adds a header beside others of its name.
    pub(crate) fn add_header(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.push((name, value.into()));
    }

    /// Sets the type unless one is set, as gin does.
    pub(crate) fn content_type(&mut self, value: &str) {
        if !self.headers.iter().any(|(n, _)| *n == "Content-Type") {
            self.headers.push(("Content-Type", value.into()));
        }
    }

    /// Writes into the buffer.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Sends what was written as one chunk, the head before it if it has not gone yet.
    pub(crate) async fn flush(&mut self) -> Written {
        self.disturb().await?;
        self.frame.clear();
        if !self.started {
            self.started = true;
            self.push_head(None);
        }
        if !self.head_only && !self.out.is_empty() {
            if self.old {
                self.frame.extend_from_slice(&self.out);
            } else {
                let _ = write!(self.frame, "{:x}\r\n", self.out.len());
                self.frame.extend_from_slice(&self.out);
                self.frame.extend_from_slice(b"\r\n");
            }
        }
        self.out.clear();
        self.chunks += 1;
        self.send_frame().await
    }

    /// Ends the answer.
    pub(crate) async fn finish(&mut self) -> Written {
        if self.finished {
            return Ok(());
        }
        if !self.started {
            return self.finish_unstarted().await;
        }
        if !self.out.is_empty() {
            self.flush().await?;
        }
        self.finished = true;
        self.frame.clear();
        if self.old {
            self.keep_alive = false;
        } else if !self.head_only {
            self.frame.extend_from_slice(b"0\r\n\r\n");
        }
        self.send_frame().await
    }

    async fn finish_unstarted(&mut self) -> Written {
        self.finished = true;
        self.started = true;
        if self.out.len() > GO_BUFFER && !self.head_only && !self.old {
            self.started = false;
            self.flush().await?;
            self.frame.clear();
            self.frame.extend_from_slice(b"0\r\n\r\n");
            return self.send_frame().await;
        }
        self.frame.clear();
        self.push_head(Some(self.out.len()));
        if !self.head_only {
            let body = std::mem::take(&mut self.out);
            self.frame.extend_from_slice(&body);
        }
        self.cut_short().await?;
        self.send_frame().await
    }

    /// Faults of an answer in one piece: it is cut in its middle, or comes later.
    async fn cut_short(&mut self) -> Written {
        match self.fault {
            Some(Fault::ResetMidStream { chunks }) => {
                let keep = if chunks == 0 { 0 } else { self.frame.len() / 2 };
                self.frame.truncate(keep);
                self.send_frame().await?;
                self.conn.reset();
                Err(Stop::Closed)
            }
            Some(Fault::Truncate { .. }) => {
                self.frame.truncate(self.frame.len() / 2);
                self.send_frame().await?;
                Err(Stop::Closed)
            }
            Some(Fault::StallMidStream { .. }) => {
                self.frame.truncate(self.frame.len() / 2);
                self.send_frame().await?;
                std::future::pending().await
            }
            Some(Fault::SlowChunks { millis: n }) => {
                self.wait(millis(n)).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Faults of a stream, due before the chunk that is about to be sent.
    async fn disturb(&mut self) -> Written {
        let Some(fault) = &self.fault else {
            return Ok(());
        };
        let (now, n) = (self.chunks, self.chunks);
        match *fault {
            Fault::ResetMidStream { chunks } if now >= chunks => {
                self.conn.reset();
                Err(Stop::Closed)
            }
            Fault::Truncate { chunks } if now >= chunks => {
                let size = self.out.len();
                self.frame.clear();
                if !self.started {
                    self.push_head(None);
                }
                let _ = write!(self.frame, "{size:x}\r\n");
                self.frame.extend_from_slice(&self.out[..size / 2]);
                self.send_frame().await?;
                Err(Stop::Closed)
            }
            Fault::EndWithoutDone { chunks } if n >= chunks => {
                self.out.clear();
                self.finished = true;
                self.frame.clear();
                if !self.started {
                    self.started = true;
                    self.push_head(None);
                }
                self.frame.extend_from_slice(b"0\r\n\r\n");
                self.send_frame().await?;
                Err(Stop::Ended)
            }
            Fault::StallMidStream { chunks } if now >= chunks => std::future::pending().await,
            Fault::SlowChunks { millis: n } => {
                self.wait(millis(n)).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn wait(&self, span: Duration) {
        self.clock.sleep(span).await;
    }

    async fn send_frame(&mut self) -> Written {
        if self.faults.state().dark {
            return Err(lights_out(self.conn, self.faults).await);
        }
        self.conn.send(&self.frame).await.map_err(|_| Stop::Closed)
    }

    /// Appends the status line and headers; a length, or else the chunked coding.
    fn push_head(&mut self, length: Option<usize>) {
        if let Some(Fault::WrongContentType { value }) = &self.fault {
            let value = value.clone();
            self.header("Content-Type", value);
        }
        if !self.keep_alive {
            self.headers.retain(|(name, _)| *name != "Connection");
        }
        self.headers.push(("Date", http_date(self.clock)));
        self.headers.sort_by_key(|(name, _)| *name);
        let version = if self.old { "1.0" } else { "1.1" };
        let frame = &mut self.frame;
        let _ = write!(
            frame,
            "HTTP/{version} {} {}\r\n",
            self.status,
            reason(self.status)
        );
        for (name, value) in &self.headers {
            let _ = write!(frame, "{name}: {value}\r\n");
        }
        let bodiless = self.status == 204 || (self.head_only && length == Some(0));
        if let Some(n) = length.filter(|_| !bodiless) {
            let _ = write!(frame, "Content-Length: {n}\r\n");
        }
        if !self.keep_alive && !self.old {
            frame.extend_from_slice(b"Connection: close\r\n");
        } else if self.keep_alive && self.old && length.is_some() {
            frame.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        if length.is_none() && !self.old {
            frame.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        frame.extend_from_slice(b"\r\n");
    }
}

/// Says nothing while the node is dark, then resets the connection.
pub(crate) async fn lights_out(conn: &Conn, faults: &Faults) -> Stop {
    let mut state = faults.subscribe();
    let _ = state.wait_for(|s| !s.dark).await;
    conn.reset();
    Stop::Closed
}

fn http_date(clock: &Clock) -> String {
    clock.wall().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Go's text of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "",
        _ => "Unknown",
    }
}
