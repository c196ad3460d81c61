//! One connection: bytes read ahead, bytes written, and the moment the client leaves.

use std::future::pending;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;

/// Bytes of following requests that are read ahead while one is answered; more is left in the kernel.
const READ_AHEAD: usize = 64 * 1024;

/// A client's connection. Everything takes `&self`, so that the client's leaving can be watched
/// while an answer is written.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    /// Bytes read and not yet used. Never held over an await.
    pub(crate) ahead: Mutex<Vec<u8>>,
    /// Counts up from 0 over the node's life.
    pub(crate) number: u64,
}

impl Conn {
    pub(crate) fn new(stream: TcpStream, number: u64) -> Self {
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            ahead: Mutex::default(),
            number,
        }
    }

    /// Waits for more bytes and keeps them; 0 means that no more will come.
    pub(crate) async fn fill(&self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            match self.read_now() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    fn read_now(&self) -> io::Result<usize> {
        let mut chunk = [0_u8; 8 * 1024];
        let n = self.stream.try_read(&mut chunk)?;
        self.ahead.lock().extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// Writes all of it.
    pub(crate) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Returns when the client has closed its side. Bytes of a next request are kept for later;
    /// after too many of them the watch ends, as Go's does after one.
    pub(crate) async fn gone(&self) {
        loop {
            if self.ahead.lock().len() >= READ_AHEAD {
                return pending().await;
            }
            if !matches!(self.fill().await, Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// Makes the coming close a reset (RST) that throws away what was not yet sent.
    pub(crate) fn reset(&self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Ends our side and reads away what still comes, so that the last answer is not lost to a
    /// reset: Go waits 500 ms for that.
    pub(crate) async fn close_gently(mut self) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let linger = async {
            let mut sink = vec![0; 16 * 1024];
            if self.stream.shutdown().await.is_ok() {
                while matches!(self.stream.read(&mut sink).await, Ok(n) if n > 0) {}
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), linger).await;
    }

    /// Gives the memory of an empty buffer back before a long silence.
    pub(crate) fn shrink(&self) {
        let mut ahead = self.ahead.lock();
        if ahead.is_empty() {
            *ahead = Vec::new();
        }
    }
}
