//! A control plane that a test holds in its hands: it notes what comes, and answers by path.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// All values of a header; names in any case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        let found = self.headers.iter().filter(named);
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header.
    pub(crate) fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name}: {self:?}");
        all[0]
    }

    /// The names that begin so, in small letters.
    pub(crate) fn names(&self, begin: &str) -> Vec<String> {
        let names = self.headers.iter().map(|(name, _)| name.to_lowercase());
        names.filter(|name| name.starts_with(begin)).collect()
    }
}

/// A running one.
pub(crate) struct Control {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Each permit lets one further event of `/ui/events` out.
    pub(crate) next_event: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Control {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, next_event) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::new(Notify::new()));
        let (list, events) = (Arc::clone(&seen), Arc::clone(&next_event));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&list), Arc::clone(&events)));
            }
        });
        Self {
            addr,
            seen,
            next_event,
            task,
        }
    }

    /// All that came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What came last.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("nothing came")
    }

    /// Ends it with all its connections; nobody listens there any more.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, events: Arc<Notify>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        let path = request.target.split('?').next().unwrap().to_owned();
        let is_head = request.method == "HEAD";
        let body = request.body.clone();
        seen.lock().unwrap().push(request);
        let goes_on = match path.as_str() {
            "/ui/hang" => std::future::pending().await,
            "/ui/cut" => {
                let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut";
                let _ = stream.write_all(cut.as_bytes()).await;
                false
            }
            "/ui/events" => tell(&mut stream, &events).await,
            "/ui/cookies" => {
                let head = "HTTP/1.1 204 No Content\r\nSet-Cookie: session=1; HttpOnly\r\nSet-Cookie: csrf=2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n";
                stream.write_all(head.as_bytes()).await.is_ok()
            }
            _ => {
                let status = if path == "/ui/503" {
                    "503 Service Unavailable"
                } else {
                    "200 OK"
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nX-Own: yes\r\nContent-Length: {length}\r\n\r\n"
                );
                let body = if is_head { &[][..] } else { &body };
                stream
                    .write_all(&[head.as_bytes(), body].concat())
                    .await
                    .is_ok()
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Events, each when it is let out; ends with the connection.
async fn tell(stream: &mut TcpStream, events: &Notify) -> bool {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut number = 0;
    loop {
        let event = format!("data: {number}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            return false;
        }
        number += 1;
        let mut gone = [0; 1];
        tokio::select! {
            () = events.notified() => {}
            _ = stream.read(&mut gone) => return false,
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
        fill(stream, buffer).await?;
    };
    let head: Vec<u8> = buffer.drain(..end).collect();
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(&head).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut seen = Seen {
        method: parsed.method.unwrap().to_owned(),
        target: parsed.path.unwrap().to_owned(),
        headers: parsed
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), text(header.value)))
            .collect(),
        body: Vec::new(),
    };
    if !seen.all("transfer-encoding").is_empty() {
        seen.body = chunks(stream, buffer).await?;
    } else if let Some(length) = seen.all("content-length").first() {
        let length = length.parse().unwrap();
        seen.body = take(stream, buffer, length).await?;
    }
    Some(seen)
}

async fn chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(2).position(|part| part == b"\r\n") {
                break at;
            }
            fill(stream, buffer).await?;
        };
        let line: Vec<u8> = buffer.drain(..end + 2).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
        let chunk = take(stream, buffer, size + 2).await?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        fill(stream, buffer).await?;
    }
    Some(buffer.drain(..length).collect())
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = vec![0; 64 << 10];
    let read = stream
        .read(&mut chunk)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    buffer.extend_from_slice(&chunk[..read]);
    Some(())
}
