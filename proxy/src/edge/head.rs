//! Reads the head of a request before Pingora parses it: Pingora bounds neither the time that a head
//! may take in all (each read has a minute of its own) nor its size below 1 MiB.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use pingora::time::timeout;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// How long a connection may stay idle between two requests: nginx's and Pingora's minute.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// What is read at first; most heads, and short requests with their bodies, fit.
const FIRST_READ: usize = 4 << 10;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4). Its first line reads as a head.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a head may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Bytes.
    pub(crate) most: usize,
    /// From its first byte to its last.
    pub(crate) patience: Duration,
}

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoHead {
    /// The client left, was idle for too long, or the proxy is closing: nothing to say.
    Gone,
    /// It began and did not end in time.
    Slow,
    /// It is longer than one may be.
    Long,
    /// It cannot become a head.
    NotHttp,
    /// It is a TLS handshake.
    Tls,
    /// A PROXY header of a peer that may not send one.
    ProxyHeader,
}

impl HeadLimits {
    /// Reads on until `read` holds a whole head, and perhaps what follows it.
    pub(crate) async fn read<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        mut read: BytesMut,
        closing: &mut watch::Receiver<bool>,
    ) -> Result<BytesMut, NoHead> {
        if read.is_empty() {
            first_bytes(stream, &mut read, closing).await?;
        }
        let mut seen = 0;
        let mut began = None;
        loop {
            if find_end(&read, &mut seen)?.is_some_and(|end| end <= self.most) {
                return Ok(read);
            }
            if read.len() > self.most {
                return Err(NoHead::Long);
            }
            let began = *began.get_or_insert_with(Instant::now);
            let left = self.patience.saturating_sub(began.elapsed());
            read.reserve(FIRST_READ);
            match timeout(left, stream.read_buf(&mut read)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Err(NoHead::Gone),
                Err(_) => return Err(NoHead::Slow),
            }
        }
    }
}

/// Waits for a request to begin.
async fn first_bytes<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut BytesMut,
    closing: &mut watch::Receiver<bool>,
) -> Result<(), NoHead> {
    read.reserve(FIRST_READ);
    tokio::select! {
        biased; // what has come is answered
        got = timeout(KEEP_ALIVE, stream.read_buf(read)) => match got {
            Ok(Ok(1..)) => Ok(()),
            _ => Err(NoHead::Gone),
        },
        _ = closing.wait_for(|closing| *closing) => Err(NoHead::Gone),
    }
}

/// Where the head ends: after its first empty line, as Pingora's parser takes it (`\n` alone ends a
/// line, empty lines before the request are passed over). `seen` is how far was looked before.
fn find_end(bytes: &[u8], seen: &mut usize) -> Result<Option<usize>, NoHead> {
    let start = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    match &bytes[start..] {
        [] => return Ok(None),
        [0x16, ..] => return Err(NoHead::Tls),
        [first, ..] if !is_token(*first) => return Err(NoHead::NotHttp),
        [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => return Err(NoHead::ProxyHeader),
        _ => {}
    }
    if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) {
        return Ok(None); // Pingora will wait for the whole of it, however long that takes
    }
    let from = start.max(*seen);
    for at in memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
        match bytes[at + 1..] {
            [b'\n', ..] => return Ok(Some(at + 2)),
            [b'\r', b'\n', ..] => return Ok(Some(at + 3)),
            _ => {}
        }
    }
    *seen = bytes.len().saturating_sub(2);
    Ok(None)
}

/// Whether a byte may stand in a method (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: &[u8]) -> Result<Option<usize>, NoHead> {
        find_end(bytes, &mut 0)
    }

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody"), Ok(Some(27)));
        assert_eq!(end(b"GET / HTTP/1.1\nHost: a\n\nbody"), Ok(Some(24)));
        assert_eq!(end(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"), Ok(Some(22)));
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
        assert_eq!(end(b"\r\n\r\n"), Ok(None));
        assert_eq!(end(&PREFACE[..20]), Ok(None));
        assert_eq!(end(PREFACE), Ok(Some(18)));
    }

    #[test]
    fn what_cannot_become_one_is_known_by_its_first_bytes() {
        assert_eq!(end(b"\x16\x03\x01"), Err(NoHead::Tls));
        assert_eq!(end(b"\0\0"), Err(NoHead::NotHttp));
        assert_eq!(end(b"\r\n\r\n\0\r\nQUIT\n"), Err(NoHead::NotHttp));
        assert_eq!(end(b"PROXY TCP4 1.2.3.4"), Err(NoHead::ProxyHeader));
    }

    #[test]
    fn it_is_found_however_it_is_cut() {
        let all = b"POST /api/chat HTTP/1.1\r\nHost: a\nX: b\r\n\r\n";
        for cut in 0..all.len() {
            let mut seen = 0;
            assert_eq!(find_end(&all[..cut], &mut seen), Ok(None), "{cut}");
            assert_eq!(find_end(all, &mut seen), Ok(Some(all.len())), "{cut}");
        }
    }
}
