//! The body of a request, read piece by piece in either framing.

use std::io;

use super::conn::Conn;
use super::head::{Framing, Head};

/// Reads one body. Pieces come as they arrive.
pub(crate) struct BodyReader<'a> {
    conn: &'a Conn,
    state: State,
    /// A `100 Continue` still to be sent.
    promise: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    /// Bytes left in this chunk, its line end not counted.
    Chunk(u64),
    ChunkEnd,
    ChunkSize,
    Trailers,
    Done,
}

impl<'a> BodyReader<'a> {
    pub(crate) fn new(conn: &'a Conn, head: &Head) -> Self {
        let state = match head.framing {
            Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkSize,
        };
        Self {
            conn,
            state,
            promise: head.expects_continue(),
        }
    }

    /// Whether all of it has been read.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the client still waits for a `100 Continue`.
    pub(crate) fn is_promised(&self) -> bool {
        self.promise && !self.is_done()
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.is_promised() {
            self.promise = false;
            self.conn.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while self.state != State::Done {
            if let Some(piece) = self.step()? {
                return Ok(Some(piece));
            }
            if self.state != State::Done && self.conn.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(None)
    }

    /// Uses what has been read ahead; `None` asks for more bytes, or means the end.
    fn step(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut ahead = self.conn.ahead.lock();
        loop {
            match self.state {
                State::Length(left) | State::Chunk(left) => {
                    let n = ahead.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if n == 0 {
                        return Ok(None);
                    }
                    let rest = left - n as u64;
                    self.state = match self.state {
                        State::Length(_) if rest == 0 => State::Done,
                        State::Length(_) => State::Length(rest),
                        _ if rest == 0 => State::ChunkEnd,
                        _ => State::Chunk(rest),
                    };
                    return Ok(Some(ahead.drain(..n).collect()));
                }
                State::ChunkEnd | State::ChunkSize | State::Trailers => {
                    let Some(line) = take_line(&mut ahead) else {
                        return Ok(None);
                    };
                    self.state = after_line(self.state, &line)?;
                }
                State::Done => return Ok(None),
            }
        }
    }
}

fn after_line(state: State, line: &str) -> io::Result<State> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    match state {
        State::ChunkEnd if line.is_empty() => Ok(State::ChunkSize),
        State::ChunkEnd => Err(bad()),
        State::Trailers if line.is_empty() => Ok(State::Done),
        State::Trailers => Ok(State::Trailers),
        _ => {
            let size = line.split(';').next().unwrap_or_default().trim();
            match u64::from_str_radix(size, 16).map_err(|_| bad())? {
                0 => Ok(State::Trailers),
                n => Ok(State::Chunk(n)),
            }
        }
    }
}

fn take_line(ahead: &mut Vec<u8>) -> Option<String> {
    let at = ahead.iter().position(|&b| b == b'\n')?;
    let line: Vec<u8> = ahead.drain(..=at).collect();
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}
