//! One JSON line a request on standard output. Lines are gathered and written by a thread of their
//! own, so that no request waits for a pipe; when its reader is too slow, lines are dropped and
//! counted in the next one written.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait for the writer; more are dropped.
const MOST: usize = 8 << 20;
/// From here on the writer is woken at once.
const PLENTY: usize = 64 << 10;
/// Otherwise it waits this long for more lines to write at once.
const EVERY: Duration = Duration::from_millis(50);

/// One access line; fields in this order. No prompt and no secret; a person only where the holder
/// of a key names its users.
#[derive(Debug)]
pub(crate) struct AccessLine<'a> {
    /// When the request's head had come, RFC 3339 in UTC.
    pub(crate) time: String,
    pub(crate) id: &'a str,
    pub(crate) method: &'a str,
    pub(crate) route: &'static str,
    pub(crate) model: &'a str,
    /// What a copy calls its model; written only there.
    pub(crate) to: Option<&'a str>,
    /// Written only where the client named one.
    pub(crate) alias: Option<&'a str>,
    pub(crate) node: &'a str,
    pub(crate) status: u16,
    /// `ok`, `error`, `client_gone`, `broken`, `unfinished`, or a rejection's reason.
    pub(crate) outcome: &'a str,
    pub(crate) attempts: u32,
    pub(crate) queue_ms: u64,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) duration: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) tokens_prompt: Option<u64>,
    pub(crate) tokens_output: Option<u64>,
    /// The id of the key or network; empty where there is none.
    pub(crate) key: &'a str,
    /// The end user, as the holder of a trusted key names it.
    pub(crate) user: &'a str,
}

impl AccessLine<'_> {
    /// Writes the line as JSON. By hand: every request makes one, and a serializer that does not
    /// know the fields' alphabet took three times the instructions (docs/benchmarks.md).
    fn write(&self, out: &mut Vec<u8>) {
        let mut json = Fields(out);
        json.text("{\"time\":", &self.time);
        json.text(",\"id\":", self.id);
        json.text(",\"method\":", self.method);
        json.text(",\"route\":", self.route);
        json.text(",\"model\":", self.model);
        if let Some(to) = self.to {
            json.text(",\"to\":", to);
        }
        if let Some(alias) = self.alias {
            json.text(",\"alias\":", alias);
        }
        json.text(",\"node\":", self.node);
        json.number(",\"status\":", Some(self.status.into()));
        json.text(",\"outcome\":", self.outcome);
        json.number(",\"attempts\":", Some(self.attempts.into()));
        json.number(",\"queue_ms\":", Some(self.queue_ms));
        json.millis(",\"first_byte_ms\":", self.first_byte);
        json.millis(",\"duration_ms\":", Some(self.duration));
        json.number(",\"bytes_in\":", Some(self.bytes_in));
        json.number(",\"bytes_out\":", Some(self.bytes_out));
        json.number(",\"tokens_prompt\":", self.tokens_prompt);
        json.number(",\"tokens_output\":", self.tokens_output);
        json.text(",\"key\":", self.key);
        json.text(",\"user\":", self.user);
        out.extend_from_slice(b"}\n");
    }
}

/// Fields of one JSON object; each comes with its key as it stands in the text.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn text(&mut self, key: &str, value: &str) {
        self.0.extend_from_slice(key.as_bytes());
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        if value.bytes().all(plain) {
            self.0.push(b'"');
            self.0.extend_from_slice(value.as_bytes());
            self.0.push(b'"');
        } else if serde_json::to_writer(&mut *self.0, value).is_err() {
            self.0.extend_from_slice(b"null"); // a Vec takes everything: this is never met
        }
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        self.0.extend_from_slice(key.as_bytes());
        match value {
            Some(value) => self
                .0
                .extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
            None => self.0.extend_from_slice(b"null"),
        }
    }

    /// Milliseconds to the microsecond.
    fn millis(&mut self, key: &str, value: Option<Duration>) {
        let Some(value) = value else {
            return self.number(key, None);
        };
        let micros = value.as_micros() as u64;
        self.number(key, Some(micros / 1000));
        let digits = [100, 10, 1].map(|place| b'0' + (micros % 1000 / place % 10) as u8);
        self.0.push(b'.');
        self.0.extend_from_slice(&digits);
    }
}

/// The log; cheap to clone.
#[derive(Clone)]
pub(crate) struct AccessLogger(Option<Arc<Shared>>);

struct Shared {
    /// Guards the lines that wait; the writer takes them whole.
    lines: Mutex<Waiting>,
    wake: Condvar,
}

thread_local! {
    /// Where a line is made, so that the lock is held for a copy only.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The second that was formatted last, and its text up to the fraction.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

impl Shared {
    fn add(&self, line: &[u8]) {
        let mut waiting = self.lines.lock();
        if waiting.bytes.len() > MOST {
            waiting.dropped += 1;
            return;
        }
        let before = waiting.bytes.len();
        waiting.bytes.extend_from_slice(line);
        // the first line begins a batch, plenty of them end it
        if before == 0 || (before < PLENTY && waiting.bytes.len() >= PLENTY) {
            self.wake.notify_one();
        }
    }
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    closing: bool,
}

impl AccessLogger {
    /// A log that writes nothing.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// A log to `out`; starts its thread.
    pub(crate) fn start(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            wake: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(&writer, out))?;
        Ok(Self(Some(shared)))
    }

    /// Whether lines are wanted at all.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &AccessLine<'_>) {
        let Some(shared) = &self.0 else { return };
        LINE.with_borrow_mut(|text| {
            text.clear();
            line.write(text);
            shared.add(text);
        });
    }

    /// Waits until what was added is written, at most a second.
    pub(crate) fn flush(&self) {
        let Some(shared) = &self.0 else { return };
        let mut waiting = shared.lines.lock();
        waiting.closing = true;
        shared.wake.notify_all();
        while waiting.closing {
            if shared
                .wake
                .wait_for(&mut waiting, Duration::from_secs(1))
                .timed_out()
            {
                return;
            }
        }
    }
}

fn write_lines(shared: &Shared, mut out: impl Write) {
    let mut batch = Vec::new();
    loop {
        let (dropped, closing) = {
            let mut waiting = shared.lines.lock();
            while waiting.bytes.is_empty() && !waiting.closing {
                shared.wake.wait(&mut waiting);
            }
            if waiting.bytes.len() < PLENTY && !waiting.closing {
                shared.wake.wait_for(&mut waiting, EVERY);
            }
            std::mem::swap(&mut batch, &mut waiting.bytes);
            (std::mem::take(&mut waiting.dropped), waiting.closing)
        };
        if dropped > 0 {
            batch.extend_from_slice(
                format!("{{\"outcome\":\"log_lines_dropped\",\"count\":{dropped}}}\n").as_bytes(),
            );
        }
        // a reader that has gone must not end the proxy
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        batch.clear();
        if closing {
            shared.lines.lock().closing = false;
            shared.wake.notify_all();
        }
    }
}

/// RFC 3339 in UTC with milliseconds. A second is formatted once.
pub(crate) fn timestamp(at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            let whole = chrono::DateTime::<chrono::Utc>::from(at);
            *text = whole.format("%Y-%m-%dT%H:%M:%S").to_string();
        }
        // by hand, as every request asks: the formatting machinery takes 1,200 instructions
        let millis = since.subsec_millis();
        let mut at = String::with_capacity(text.len() + 5);
        at.push_str(text);
        at.push('.');
        at.extend([100, 10, 1].map(|place| char::from(b'0' + (millis / place % 10) as u8)));
        at.push('Z');
        at
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_instant_is_told_to_the_millisecond() {
        let at = |millis| timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(1_007), "1970-01-01T00:00:01.007Z");
        assert_eq!(at(1_999), "1970-01-01T00:00:01.999Z");
        assert_eq!(at(86_400_120), "1970-01-02T00:00:00.120Z");
    }

    #[test]
    fn lines_are_whole_json_in_their_order() {
        let buffer = Buffer::default();
        let log = AccessLogger::start(buffer.clone()).unwrap();
        for status in [200, 404] {
            log.write(&AccessLine {
                time: timestamp(SystemTime::UNIX_EPOCH),
                id: "a\"b",
                method: "POST",
                route: "/api/chat",
                model: "m",
                to: None,
                alias: (status == 404).then_some("small"),
                node: "n",
                status,
                outcome: "ok",
                attempts: 1,
                queue_ms: 0,
                first_byte: None,
                duration: Duration::from_micros(1_500),
                bytes_in: 1,
                bytes_out: 2,
                tokens_prompt: None,
                tokens_output: Some(3),
                key: "webui",
                user: "",
            });
        }
        log.flush();
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        let statuses: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["status"].clone())
            .collect();
        assert_eq!(statuses, [200, 404]);
        assert!(text.contains(",\"duration_ms\":1.500,"), "{text}");
        assert_eq!(text.matches(",\"alias\":\"small\",").count(), 1, "{text}");
        assert!(
            text.starts_with("{\"time\":\"1970-01-01T00:00:00.000Z\",\"id\":\"a\\\"b\""),
            "{text}"
        );
    }
}
