//! `bench-mock`: an upstream that costs next to nothing, so that benchmarks measure the proxy.
//! `bench-mock ADDR…` plays one Ollama node on each address, all on one thread.
//!
//! It answers what probes ask (`/`, `/api/version`, `/api/tags`, `/api/ps`) and every POST: with a
//! small whole answer, or with `x-bench-chunks: N` with an NDJSON stream of N lines, each its own
//! HTTP chunk and write, `x-bench-pause-us` apart. Bodies are counted by their Content-Length and
//! not looked at. The simulated node (`sim/`) is the faithful one; this one is fast.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 8192;
/// Bytes asked for in one read: bodies of megabytes come in few reads.
const READ: usize = 64 << 10;

const TAGS: &str = r#"{"models":[{"name":"bench:latest","model":"bench:latest","modified_at":"2026-01-01T00:00:00Z","size":1000000,"digest":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1B","quantization_level":"Q4_0"}}]}"#;
const PS: &str = r#"{"models":[{"name":"bench:latest","model":"bench:latest","size":1000000,"digest":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1B","quantization_level":"Q4_0"},"expires_at":"2318-01-01T00:00:00Z","size_vram":1000000,"context_length":4096}]}"#;
const WHOLE: &str = r#"{"model":"bench","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant","content":"The sky is blue."},"done":true,"done_reason":"stop","total_duration":50000000,"load_duration":1000000,"prompt_eval_count":15,"prompt_eval_duration":2000000,"eval_count":6,"eval_duration":12000000}"#;
const PIECE: &str = r#"{"model":"bench","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant","content":" blue"},"done":false}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let canned = Canned::new();
    let canned: &'static Canned = Box::leak(Box::new(canned));
    for address in std::env::args().skip(1) {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        tokio::spawn(accept(socket.listen(BACKLOG)?, canned));
    }
    std::future::pending().await
}

async fn accept(listener: TcpListener, canned: &'static Canned) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            // an error is the client's going, or a request that this is not made for
            tokio::spawn(async move { serve(stream, canned).await });
        }
    }
}

/// Answers, ready to be written.
struct Canned {
    root: Vec<u8>,
    version: Vec<u8>,
    tags: Vec<u8>,
    ps: Vec<u8>,
    whole: Vec<u8>,
    stream_head: Vec<u8>,
    piece: Vec<u8>,
    last: Vec<u8>,
}

impl Canned {
    fn new() -> Self {
        let whole = |content_type: &str, body: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        let json = |body| whole("application/json; charset=utf-8", body);
        let chunk = |line: &str| format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
        Self {
            root: whole("text/plain; charset=utf-8", "Ollama is running"),
            version: json(r#"{"version":"0.33.0"}"#),
            tags: json(TAGS),
            ps: json(PS),
            whole: json(WHOLE),
            stream_head: b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\
                Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec(),
            piece: chunk(PIECE).into_bytes(),
            last: format!("{}0\r\n\r\n", chunk(WHOLE)).into_bytes(),
        }
    }
}

/// What one request asks for.
struct Asked {
    path: Path,
    /// Bytes of the head.
    head: usize,
    body: usize,
    chunks: usize,
    pause: Duration,
}

enum Path {
    Root,
    Version,
    Tags,
    Ps,
    Infer,
}

async fn serve(mut stream: TcpStream, canned: &Canned) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let asked = loop {
            if let Some(asked) = parse(&buffer)? {
                break asked;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let here = buffer.len() - asked.head;
        buffer.drain(..asked.head + asked.body.min(here));
        skip(&mut stream, asked.body.saturating_sub(here)).await?;
        match asked.path {
            Path::Root => stream.write_all(&canned.root).await?,
            Path::Version => stream.write_all(&canned.version).await?,
            Path::Tags => stream.write_all(&canned.tags).await?,
            Path::Ps => stream.write_all(&canned.ps).await?,
            Path::Infer if asked.chunks == 0 => stream.write_all(&canned.whole).await?,
            Path::Infer => answer_stream(&mut stream, &asked, canned).await?,
        }
    }
}

/// `None` while the head is not complete.
fn parse(bytes: &[u8]) -> io::Result<Option<Asked>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let number = |name: &str| {
        let header = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()?.trim().parse().ok()
    };
    let path = match request.path {
        Some("/") => Path::Root,
        Some("/api/version") => Path::Version,
        Some("/api/tags") => Path::Tags,
        Some("/api/ps") => Path::Ps,
        _ => Path::Infer,
    };
    Ok(Some(Asked {
        path,
        head,
        body: number("content-length").unwrap_or(0),
        chunks: number("x-bench-chunks").unwrap_or(0),
        pause: Duration::from_micros(number("x-bench-pause-us").unwrap_or(0) as u64),
    }))
}

/// Reads the rest of a body away.
async fn skip(stream: &mut TcpStream, mut left: usize) -> io::Result<()> {
    if left == 0 {
        return Ok(());
    }
    let mut sink = vec![0; READ];
    while left > 0 {
        let most = left.min(READ);
        match stream.read(&mut sink[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => left -= read,
        }
    }
    Ok(())
}

async fn answer_stream(stream: &mut TcpStream, asked: &Asked, canned: &Canned) -> io::Result<()> {
    let mut first = canned.stream_head.clone();
    let mut pause = (!asked.pause.is_zero()).then(|| interval(asked.pause));
    if let Some(pause) = &mut pause {
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pause.tick().await; // the first comes at once
    }
    for number in 1..=asked.chunks {
        let chunk = if number == asked.chunks {
            &canned.last
        } else {
            &canned.piece
        };
        if number == 1 {
            first.extend_from_slice(chunk);
            stream.write_all(&first).await?;
            continue;
        }
        if let Some(pause) = &mut pause {
            tokio::select! {
                _ = pause.tick() => {}
                () = gone(stream) => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        stream.write_all(chunk).await?;
    }
    Ok(())
}

/// Waits until the other side closes. Nothing else may come while a stream runs.
async fn gone(stream: &TcpStream) {
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut [0; 16]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}
