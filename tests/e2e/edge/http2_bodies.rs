//! Bodies over HTTP/2 whose length nobody named: they go to a node in chunks, whole and no further,
//! to a second one as well, and where they are too long to be held.

use std::sync::{Arc, Mutex};

use aivonx_sim::{Fault, FaultScope, ModelSpec, NodeSpec, SimNode};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::quick;
use crate::bodies::digest;
use crate::support::{End, H2, Response, Setup, chat, last_chat, until, warm};

/// A chat of exactly this size, its model at one end or the other.
fn sized(size: usize, model_first: bool) -> String {
    let rest =
        r#""stream":false,"options":{"num_predict":1},"messages":[{"role":"user","content":""#;
    let (start, end) = if model_first {
        (format!(r#"{{"model":"tiny",{rest}"#), r#""}]}"#)
    } else {
        (format!("{{{rest}"), r#""}],"model":"tiny"}"#)
    };
    let text = "x".repeat(size - start.len() - end.len());
    format!("{start}{text}{end}")
}

/// Posts without a length; the end comes with the last bytes, or in a frame of its own.
async fn send(h2: &H2, path: &str, body: &str, end_apart: bool) -> Response {
    let pieces = [body.as_bytes(), b""];
    let count = if end_apart { 2 } else { 1 };
    h2.send(h2.head(Method::POST, path), &pieces[..count]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_is_sent_again_whole_where_the_first_node_fails() {
    let spec = || NodeSpec::new().model(ModelSpec::new("tiny").context_length(1 << 30));
    let (bad, good) = (
        SimNode::start(spec()).await.unwrap(),
        SimNode::start(spec()).await.unwrap(),
    );
    // the weight makes the bad node the first choice among the idle nearly always
    let aivonx = Setup::fleet(format!(
        "nodes:\n  - {{name: bad, url: \"{}\", weight: 1000, slots: 100}}\n  - {{name: good, url: \"{}\", slots: 1}}\n",
        bad.url(),
        good.url()
    ))
    .set("BREAKER__FAILURES", "1000")
    .start()
    .await;
    warm(&aivonx, &[&bad, &good], "tiny").await;
    let h2 = H2::plain(aivonx.addr).await;
    let (mut cases, mut retried) = (0, 0);
    for fault in [
        Fault::busy_503(), // read whole
        Fault::ResetWhileReading { bytes: 50_000 },
    ] {
        bad.clear_faults();
        bad.fault_for(fault.clone(), FaultScope::always().path("/api/chat"));
        for size in [65_535, 65_536, 65_537, 1 << 20, 3 << 20] {
            for (model_first, end_apart) in
                [(true, true), (true, false), (false, true), (false, false)]
            {
                let case = format!("{fault:?} {size} first={model_first} apart={end_apart}");
                let body = sized(size, model_first);
                let answer = send(&h2, "/api/chat", &body, end_apart).await;
                let got = (answer.status, answer.node(), answer.end);
                assert_eq!(got, (200, "good", End::Complete), "{case}: {answer:?}");
                let seen = last_chat(&good);
                assert_eq!(seen.body_sha256, digest(body.as_bytes()), "{case}");
                cases += 1;
                retried += usize::from(answer.header("x-aivonx-attempts") == Some("2"));
            }
        }
    }
    assert!(
        retried * 10 > cases * 9,
        "{retried} of {cases} met the bad node first"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_memory_streams_on_to_its_last_frame() {
    let sim = quick().await;
    let aivonx = Setup::nodes(&[&sim])
        .set("BODY__BUFFER", "1MiB")
        .start()
        .await;
    let h2 = H2::plain(aivonx.addr).await;
    // of the first, the last frame is the one too many
    for size in [(1 << 20) + 1, (1 << 20) + 20_000, 3 << 20] {
        for end_apart in [true, false] {
            let body = sized(size, true);
            let answer = send(&h2, "/api/chat", &body, end_apart).await;
            let got = (answer.status, answer.end);
            assert_eq!(got, (200, End::Complete), "{size}: {answer:?}");
            let seen = last_chat(&sim);
            assert_eq!(seen.body_sha256, digest(body.as_bytes()), "{size}");
        }
    }
    for end_apart in [true, false] {
        let late = send(&h2, "/api/chat", &sized(3 << 20, false), end_apart).await;
        assert_eq!((late.status, late.end), (413, End::Complete), "{late:?}");
    }
}

/// A line to a node that notes what it carries there, by connection.
struct Tap {
    addr: std::net::SocketAddr,
    carried: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    async fn before(node: &SimNode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, target) = (listener.local_addr().unwrap(), node.addr());
        let carried = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&carried);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = noted.lock().unwrap().len();
                noted.lock().unwrap().push(Vec::new());
                let node = TcpStream::connect(target).await.unwrap();
                tokio::spawn(carry(client, node, number, Arc::clone(&noted)));
            }
        });
        Self { addr, carried }
    }
}

async fn carry(client: TcpStream, node: TcpStream, number: usize, noted: Arc<Mutex<Vec<Vec<u8>>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_node, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        noted.lock().unwrap()[number].extend_from_slice(&buffer[..read]);
        if to_node.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

fn count(bytes: &[u8], what: &str) -> usize {
    let found = bytes.windows(what.len());
    found.filter(|part| *part == what.as_bytes()).count()
}

/// The empty frame must not become an end of its own: the node would read it as the beginning of
/// the next request, somebody else's, and refuse that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_ends_in_an_empty_frame_ends_once_at_its_node() {
    let sim = quick().await;
    let tap = Tap::before(&sim).await;
    let aivonx = Setup::fleet(format!(
        "nodes: [{{name: n0, url: \"http://{}\"}}]",
        tap.addr
    ))
    .start()
    .await;
    let h2 = H2::plain(aivonx.addr).await;
    let blob = format!("/api/blobs/sha256:{}", digest(b"blob"));
    for (path, body, status) in [
        ("/api/chat", chat("tiny", 1, false), 200), // held by Pingora's buffer
        ("/api/chat", sized(300_000, true), 200),
        (&blob, "blob".to_owned(), 201), // read by the node alone
    ] {
        let begins = format!("POST {path} ");
        until("a connection carries two of them", || async {
            let answer = send(&h2, path, &body, true).await;
            assert!([200, status].contains(&answer.status), "{answer:?}");
            let carried = tap.carried.lock().unwrap();
            for bytes in carried.iter() {
                assert_eq!(count(bytes, "0\r\n\r\n0\r\n\r\n"), 0, "{path}: two ends");
            }
            carried.iter().any(|bytes| count(bytes, &begins) > 1)
        })
        .await;
        tap.carried.lock().unwrap().iter_mut().for_each(Vec::clear);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_length_is_not_its_bodys_is_reset_and_no_node_hears_of_it() {
    let sim = quick().await;
    let aivonx = Setup::nodes(&[&sim]).start().await;
    let h2 = H2::plain(aivonx.addr).await;
    let body = chat("tiny", 1, false);
    let length = body.len();
    for lengths in [&[length, length + 1][..], &[length + 1], &[length - 1]] {
        let mut head = h2.head(Method::POST, "/api/chat");
        for value in lengths {
            head.headers_mut().append("content-length", (*value).into());
        }
        let answer = h2.open(head, &[body.as_bytes()]).await;
        let is_reset = answer.is_err_and(|error| error.is_reset());
        assert!(is_reset, "{lengths:?} of {length}");
    }
    assert_eq!(sim.count("/api/chat"), 0);
    assert_eq!(h2.get("/").await.status, 200, "the connection goes on");
}
