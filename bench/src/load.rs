//! `bench-load`: loads one address and says in JSON what it cost: requests a second, latencies,
//! errors, and the CPU time and memory of the processes under test (`--pid`, from `/proc`).
//!
//! `run` is a closed loop of N connections, in HTTP/1.1 or HTTP/2, plain or over TLS; `open` opens
//! streams that stay open and measures the memory they take; `certificate` makes what servers need
//! to speak TLS.

mod answer;
mod certificate;
mod client;
mod http2;
mod process;
mod request;
mod tally;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use process::Processes;
use request::{Ask, Place, Request};
use tally::Tally;
use wire::{Tls, Wire};

#[derive(Debug, Parser)]
#[command(version, about = "Loads an HTTP address and says what it cost")]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Closed loop: each connection sends its next request when the last answer is whole.
    Run(Run),
    /// Opens streams that stay open, and measures the memory they take.
    Open(Open),
    /// Writes `cert.pem` and `key.pem` for `localhost` into a folder.
    Certificate {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Where to connect.
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, default_value = "/api/chat")]
    path: String,
    /// A header line to send, as `x-api-key: …`; repeatable.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// A process under test; repeatable. Its children count, too.
    #[arg(long = "pid")]
    pids: Vec<u32>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    ask: Ask,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How long to measure; with `--count`, at most.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Ends after this many requests.
    #[arg(long)]
    count: Option<u64>,
    /// How long to run before measuring.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Speaks TLS and trusts the certificates in this PEM file.
    #[arg(long, value_name = "FILE")]
    tls: Option<PathBuf>,
    /// Speaks HTTP/2: by ALPN over TLS, with prior knowledge without.
    #[arg(long)]
    http2: bool,
    /// Requests at once on each connection of HTTP/2.
    #[arg(long, default_value_t = 1, requires = "http2")]
    streams: usize,
    /// Takes a new connection for each request.
    #[arg(long, conflicts_with = "http2")]
    fresh: bool,
}

#[derive(Debug, Args)]
struct Open {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 2000)]
    streams: usize,
}

/// How long a stream of `open` is held, microseconds: longer than any measurement.
const HELD_US: u64 = 600_000_000;
/// How long memory may still grow after the last stream was opened.
const SETTLE: Duration = Duration::from_millis(1500);
/// Streams that are being opened at a time.
const OPENING: usize = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Cli::parse().mode {
        Mode::Run(run) => measure_run(&run).await.map(Some),
        Mode::Open(open) => measure_open(&open).await.map(Some),
        Mode::Certificate { folder } => certificate::write(&folder).map(|()| None),
    };
    match done {
        Ok(report) => {
            if let Some(report) = report {
                println!("{report}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure_run(run: &Run) -> io::Result<Value> {
    let protocol = if run.http2 { "h2" } else { "http/1.1" };
    let tls = run.tls.as_ref().map(|file| Tls::trusting(file, protocol));
    let request = Arc::new(run.common.request(&run.ask, tls.transpose()?)?);
    let tally = Arc::new(Tally::new(run.count));
    let clients: Vec<_> = (0..run.connections)
        .map(|_| start(run, &request, &tally))
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(run.warmup)).await;

    let processes = Processes::of(&run.common.pids);
    let cpu = processes.cpu()?;
    tally.start();
    let began = Instant::now();
    let limit = Duration::from_secs_f64(run.seconds);
    // an error means that the time was up before the count was reached
    let _ = tokio::time::timeout(limit, tally.reached()).await;
    tally.stop();
    let took = began.elapsed().as_secs_f64();
    let cpu = processes.cpu()? - cpu;
    for client in &clients {
        client.abort();
    }
    let mut report = tally.report(took, cpu, processes.memory()?);
    report["tls"] = request.tls.as_ref().and_then(Tls::agreed).into();
    Ok(report)
}

fn start(run: &Run, request: &Arc<Request>, tally: &Arc<Tally>) -> JoinHandle<()> {
    let (request, tally) = (Arc::clone(request), Arc::clone(tally));
    if run.http2 {
        let streams = run.streams;
        let client = http2::Client {
            request,
            tally,
            streams,
        };
        return tokio::spawn(client.run());
    }
    let fresh = run.fresh;
    let client = client::Client {
        request,
        tally,
        fresh,
    };
    tokio::spawn(client.run())
}

async fn measure_open(open: &Open) -> io::Result<Value> {
    let processes = Processes::of(&open.common.pids);
    let ask = |chunks, pause_us| Ask {
        body: 200,
        model_at: Place::First,
        chunks,
        pause_us,
    };
    // a few whole streams first: what is set up once belongs to no stream
    let whole = open.common.request(&ask(3, 0), None)?;
    for _ in 0..20 {
        client::whole(&whole).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let idle = processes.memory()?;

    let request = Arc::new(open.common.request(&ask(2, HELD_US), None)?);
    let (held, errors) = hold(&request, open.streams).await?;
    tokio::time::sleep(SETTLE).await;
    let open = processes.memory()?;
    let per_stream = |open: u64, idle: u64| (open as f64 - idle as f64) / held.len() as f64;
    Ok(json!({
        "streams": held.len(),
        "errors": errors,
        "rss_idle_kb": idle.rss_kb,
        "rss_open_kb": open.rss_kb,
        "rss_kb_per_stream": per_stream(open.rss_kb, idle.rss_kb),
    }))
}

/// Opens streams, and counts those that did not open.
async fn hold(request: &Arc<Request>, streams: usize) -> io::Result<(Vec<Wire>, usize)> {
    let (mut held, mut errors) = (Vec::with_capacity(streams), 0);
    while held.len() + errors < streams {
        let batch = OPENING.min(streams - held.len() - errors);
        let opening: Vec<_> = (0..batch)
            .map(|_| {
                let request = Arc::clone(request);
                tokio::spawn(async move { client::begin(&request).await })
            })
            .collect();
        for one in opening {
            match one.await.map_err(io::Error::other)? {
                Ok(stream) => held.push(stream),
                Err(_) => errors += 1,
            }
        }
    }
    Ok((held, errors))
}

impl Common {
    fn request(&self, ask: &Ask, tls: Option<Tls>) -> io::Result<Request> {
        Request::new(self.target, &self.path, &self.headers, ask, tls)
    }
}
