//! Reads one answer off a connection: head, then a body by its length or in chunks. Of HTTP/2, which
//! brings both in frames, it counts what came.

use std::io;

/// An answer as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// HTTP chunks' payload or body bytes so far.
    pub(crate) bytes: u64,
    /// Lines so far: a stream has one a chunk, however a proxy cut it.
    pub(crate) lines: usize,
    body: Body,
    done: bool,
}

#[derive(Debug, Default)]
enum Body {
    #[default]
    Head,
    Length(u64),
    /// Before or within a chunk's size line.
    Size(u64),
    /// Within a chunk's data.
    Data(u64),
    /// Within the line end after a chunk's data.
    Gap(u8),
    /// The same after the last chunk.
    End(u8),
}

impl Answer {
    /// One whose head came in another way than through [`Answer::take`].
    pub(crate) fn begun(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// Counts a piece of the body.
    pub(crate) fn count(&mut self, piece: &[u8]) {
        let ends = piece.iter().filter(|byte| **byte == b'\n');
        self.lines += ends.count();
        self.bytes += piece.len() as u64;
    }

    /// Whether all of it came.
    pub(crate) fn is_whole(&self) -> bool {
        self.done
    }

    /// Takes what came from `buffer`; what is left over is part of the head.
    pub(crate) fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut at = 0;
        if matches!(self.body, Body::Head) {
            match self.head(buffer)? {
                Some(head) => at = head,
                None => return Ok(()),
            }
        }
        while at < buffer.len() && !self.done {
            at += self.step(&buffer[at..])?;
        }
        if at < buffer.len() {
            return Err(io::Error::other("bytes after the answer"));
        }
        buffer.clear();
        Ok(())
    }

    fn head(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(end) = response.parse(bytes).map_err(io::Error::other)?
        else {
            return Ok(None);
        };
        self.status = response.code.unwrap_or(0);
        let header = |name: &str| {
            let header = response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()
        };
        self.body = match header("content-length").map(str::parse) {
            Some(Ok(length)) => Body::Length(length),
            _ if header("transfer-encoding").is_some() => Body::Size(0),
            _ => return Err(io::Error::other("an answer without a length")),
        };
        self.done = matches!(self.body, Body::Length(0));
        Ok(Some(end))
    }

    /// Takes some bytes, at least one.
    fn step(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.body {
            Body::Head => Err(io::Error::other("no head")),
            Body::Length(left) => {
                let taken = bytes.len().min(*left as usize);
                *left -= taken as u64;
                self.done = *left == 0;
                self.bytes += taken as u64;
                Ok(taken)
            }
            Body::Size(size) => {
                match bytes[0] {
                    b'\n' if *size == 0 => self.body = Body::End(2),
                    b'\n' => self.body = Body::Data(*size),
                    b'\r' => {}
                    digit => {
                        let digit = (digit as char).to_digit(16);
                        let digit = digit.ok_or_else(|| io::Error::other("no chunk size"))?;
                        *size = *size * 16 + u64::from(digit);
                    }
                }
                Ok(1)
            }
            Body::Data(left) => {
                let taken = bytes.len().min(*left as usize);
                *left -= taken as u64;
                if *left == 0 {
                    self.body = Body::Gap(2);
                }
                self.count(&bytes[..taken]);
                Ok(taken)
            }
            Body::Gap(left) => {
                *left -= 1;
                if *left == 0 {
                    self.body = Body::Size(0);
                }
                Ok(1)
            }
            Body::End(left) => {
                *left -= 1;
                self.done = *left == 0;
                Ok(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_any_cut() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\n{\"a\r\n2\r\n}\n\r\n0\r\n\r\n";
        for text in [&whole[..], &chunked[..]] {
            for piece in [1, 3, 1000] {
                let (mut answer, mut buffer) = (Answer::default(), Vec::new());
                for part in text.chunks(piece) {
                    assert!(!answer.is_whole());
                    buffer.extend_from_slice(part);
                    answer.take(&mut buffer).unwrap();
                }
                assert!(answer.is_whole() && answer.status == 200, "{answer:?}");
                assert_eq!(answer.lines, usize::from(text == chunked));
            }
        }
    }
}
