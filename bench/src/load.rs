//! `bench-load`: loads one address and says in JSON what it cost: requests a second, latencies,
//! errors, and the CPU time and memory of the processes under test (`--pid`, from `/proc`).
//!
//! `run` is a closed loop of N keep-alive connections; `open` opens streams that stay open and
//! measures the memory they take.

mod answer;
mod client;
mod process;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use client::{Client, Request, Tally};
use process::Processes;

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
    /// Bytes of the body.
    #[arg(long, default_value_t = 200)]
    body: usize,
    /// Where `model` stands in the body.
    #[arg(long, value_enum, default_value_t = Place::First)]
    model_at: Place,
    /// Asks for a stream of this many chunks; 0 for a whole answer.
    #[arg(long, default_value_t = 0)]
    chunks: usize,
    /// Microseconds between two chunks.
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
}

#[derive(Debug, Args)]
struct Open {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 2000)]
    streams: usize,
}

/// Where `model` stands among the keys of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    First,
    Last,
}

/// How long a stream of `open` is held, microseconds: longer than any measurement.
const HELD_US: u64 = 600_000_000;
/// How long memory may still grow after the last stream was opened.
const SETTLE: Duration = Duration::from_millis(1500);
/// Streams that are being opened at a time.
const OPENING: usize = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let measured = match Cli::parse().mode {
        Mode::Run(run) => measure_run(&run).await,
        Mode::Open(open) => measure_open(&open).await,
    };
    match measured {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure_run(run: &Run) -> std::io::Result<Value> {
    let request = Arc::new(Request {
        target: run.common.target,
        bytes: request(&run.common, run),
        chunks: run.chunks,
    });
    let tally = Arc::new(Tally::new(run.count));
    let clients: Vec<_> = (0..run.connections)
        .map(|_| tokio::spawn(Client::new(Arc::clone(&request), Arc::clone(&tally)).run()))
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
    Ok(tally.report(took, cpu, processes.memory()?))
}

async fn measure_open(open: &Open) -> std::io::Result<Value> {
    let processes = Processes::of(&open.common.pids);
    let ask = |chunks, pause_us| Run {
        common: Common {
            target: open.common.target,
            path: open.common.path.clone(),
            headers: open.common.headers.clone(),
            pids: Vec::new(),
        },
        connections: 0,
        seconds: 0.0,
        count: None,
        warmup: 0.0,
        body: 200,
        model_at: Place::First,
        chunks,
        pause_us,
    };
    let make = |run: Run| {
        Arc::new(Request {
            target: open.common.target,
            bytes: request(&run.common, &run),
            chunks: run.chunks,
        })
    };
    // a few whole streams first: what is set up once belongs to no stream
    for _ in 0..20 {
        client::whole(&make(ask(3, 0))).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let idle = processes.memory()?;

    let request = make(ask(2, HELD_US));
    let (mut held, mut errors) = (Vec::with_capacity(open.streams), 0u64);
    while held.len() as u64 + errors < open.streams as u64 {
        let batch = OPENING.min(open.streams - held.len() - errors as usize);
        let opening: Vec<_> = (0..batch)
            .map(|_| {
                let request = Arc::clone(&request);
                tokio::spawn(async move { client::begin(&request).await })
            })
            .collect();
        for one in opening {
            match one.await.map_err(std::io::Error::other)? {
                Ok(stream) => held.push(stream),
                Err(_) => errors += 1,
            }
        }
    }
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

/// The bytes of one request, head and body.
fn request(common: &Common, run: &Run) -> Vec<u8> {
    let body = body(run);
    let sent: String = common
        .headers
        .iter()
        .flat_map(|line| [line, "\r\n"])
        .collect();
    let asked = match (run.chunks, run.pause_us) {
        (0, _) => String::new(),
        (chunks, 0) => format!("x-bench-chunks: {chunks}\r\n"),
        (chunks, pause) => format!("x-bench-chunks: {chunks}\r\nx-bench-pause-us: {pause}\r\n"),
    };
    format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n\
         User-Agent: bench-load\r\nContent-Length: {}\r\n{sent}{asked}\r\n{body}",
        common.path,
        body.len()
    )
    .into_bytes()
}

/// A chat request of about `run.body` bytes: the filling is one message of plain words.
fn body(run: &Run) -> String {
    const WORDS: &str = "why is the sky blue and the sea so deep ";
    let make = |text: &str| {
        let messages = format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#);
        let stream = run.chunks > 0;
        match run.model_at {
            Place::First => format!(r#"{{"model":"bench",{messages},"stream":{stream}}}"#),
            Place::Last => format!(r#"{{{messages},"stream":{stream},"model":"bench"}}"#),
        }
    };
    let text: String = WORDS
        .chars()
        .cycle()
        .take(run.body.saturating_sub(make("").len()))
        .collect();
    make(&text)
}
