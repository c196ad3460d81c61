//! One connection of the load, and the account that all of them keep.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::answer::Answer;
use crate::process::Memory;

/// What every connection sends.
pub(crate) struct Request {
    pub(crate) target: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    /// Lines that a whole answer must have; 0 for an answer in one piece.
    pub(crate) chunks: usize,
}

/// The account of a measurement.
pub(crate) struct Tally {
    /// Behind a lock only because tasks must be `Send`; there is one thread.
    state: std::sync::Mutex<State>,
    reached: Notify,
    count: u64,
}

#[derive(Default)]
struct State {
    counts: bool,
    latencies_ns: Vec<u32>,
    non_2xx: u64,
    errors: u64,
    /// What the first error was.
    first_error: Option<String>,
}

impl Tally {
    pub(crate) fn new(count: Option<u64>) -> Self {
        Self {
            state: std::sync::Mutex::default(),
            reached: Notify::new(),
            count: count.unwrap_or(u64::MAX),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().expect("nobody panics while holding it");
        change(&mut state)
    }

    /// From now on answers count.
    pub(crate) fn start(&self) {
        self.with(|state| state.counts = true);
    }

    /// From now on they do not.
    pub(crate) fn stop(&self) {
        self.with(|state| state.counts = false);
    }

    /// Waits until the wanted number of requests is reached.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    fn note(&self, answer: &io::Result<Answer>, chunks: usize, took: Duration) {
        self.with(|state| {
            if !state.counts {
                return;
            }
            match answer {
                Ok(answer) if !(200..300).contains(&answer.status) => state.non_2xx += 1,
                Ok(answer) if answer.lines != chunks => {
                    state.errors += 1;
                    let text = format!("{} lines instead of {chunks}", answer.lines);
                    state.first_error.get_or_insert(text);
                }
                Ok(_) => state.latencies_ns.push(took.as_nanos() as u32),
                Err(error) => {
                    state.errors += 1;
                    state.first_error.get_or_insert(error.to_string());
                }
            }
            if state.latencies_ns.len() as u64 >= self.count {
                state.counts = false;
                self.reached.notify_one();
            }
        });
    }

    /// The account in JSON; CPU in seconds.
    pub(crate) fn report(&self, took: f64, cpu: f64, memory: Memory) -> Value {
        self.with(|state| {
            state.latencies_ns.sort_unstable();
            let requests = state.latencies_ns.len();
            let at = |share: f64| {
                let index = (requests as f64 * share) as usize;
                let found = state
                    .latencies_ns
                    .get(index.min(requests.saturating_sub(1)));
                found.map(|nanos| f64::from(*nanos) / 1e3)
            };
            json!({
                "requests": requests,
                "seconds": took,
                "requests_per_second": requests as f64 / took,
                "errors": state.errors,
                "first_error": state.first_error,
                "non_2xx": state.non_2xx,
                "p50_us": at(0.5),
                "p99_us": at(0.99),
                "cpu_seconds": cpu,
                "cpu_us_per_request": cpu * 1e6 / requests as f64,
                "rss_kb": memory.rss_kb,
            })
        })
    }
}

/// One connection.
pub(crate) struct Client {
    request: Arc<Request>,
    tally: Arc<Tally>,
}

thread_local! {
    /// Room to read into; one thread runs all clients, and none keeps it over an await.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Client {
    pub(crate) fn new(request: Arc<Request>, tally: Arc<Tally>) -> Self {
        Self { request, tally }
    }

    /// Asks again and again, on one connection while it lasts.
    pub(crate) async fn run(self) {
        let mut stream = None;
        loop {
            let began = Instant::now();
            let answer = exchange(&mut stream, &self.request).await;
            if answer.is_err() {
                stream = None;
            }
            self.tally
                .note(&answer, self.request.chunks, began.elapsed());
            if answer.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// One whole exchange on a connection of its own.
pub(crate) async fn whole(request: &Request) -> io::Result<Answer> {
    exchange(&mut None, request).await
}

/// Sends a request and reads the first piece of its answer's body.
pub(crate) async fn begin(request: &Request) -> io::Result<TcpStream> {
    let mut stream = connect(request.target).await?;
    stream.write_all(&request.bytes).await?;
    let (mut answer, mut buffer) = (Answer::default(), Vec::with_capacity(1024));
    while answer.bytes == 0 {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.take(&mut buffer)?;
    }
    if answer.status == 200 && !answer.is_whole() {
        Ok(stream)
    } else {
        Err(io::Error::other("not an open stream"))
    }
}

async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(slot: &mut Option<TcpStream>, request: &Request) -> io::Result<Answer> {
    let stream = match slot {
        Some(stream) => stream,
        None => slot.insert(connect(request.target).await?),
    };
    stream.write_all(&request.bytes).await?;
    let mut answer = Answer::default();
    let mut buffer = Vec::new();
    while !answer.is_whole() {
        stream.readable().await?;
        if buffer.is_empty() {
            buffer = SPARE.take();
            buffer.reserve(32 << 10);
        }
        let read = match stream.try_read_buf(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.take(&mut buffer)?;
        if buffer.is_empty() {
            SPARE.set(std::mem::take(&mut buffer));
        }
    }
    Ok(answer)
}
