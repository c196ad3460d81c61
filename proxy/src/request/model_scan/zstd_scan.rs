//! Scanning a body in `Content-Encoding: zstd`, which five `/v1` routes accept.
//!
//! The limits are Ollama's: 20 MiB decoded, a window of 8 MiB. Only the scan sees the decoded
//! bytes; the node gets the body as it came.

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::field::{Found, Outcome};
use super::scan::ModelScan;

/// The most that a body may decode to.
pub const ZSTD_MAX_DECODED: u64 = 20 << 20;
/// The binary logarithm of the largest window, 8 MiB.
const WINDOW_LOG: u32 = 23;
/// How much is decoded in one go.
const PIECE: usize = 32 * 1024;

/// Why a compressed body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZstdFault {
    /// It is no zstd, is damaged, or wants a larger window.
    #[error("the body is not valid zstd")]
    Broken,
    /// It decodes to more than [`ZSTD_MAX_DECODED`].
    #[error("the body decodes to more than 20 MiB")]
    TooLarge,
}

/// A decoder in front of a [`ModelScan`].
pub struct ZstdScan {
    decoder: Decoder<'static>,
    scan: ModelScan,
    piece: Box<[u8]>,
    decoded: u64,
    /// Whether the frames so far are whole.
    at_frame_end: bool,
    fault: Option<ZstdFault>,
}

impl ZstdScan {
    /// A scan of the JSON inside. The error is that of an allocation in the decoder.
    pub fn json() -> std::io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self {
            decoder,
            scan: ModelScan::json(),
            piece: vec![0; PIECE].into_boxed_slice(),
            decoded: 0,
            at_frame_end: false,
            fault: None,
        })
    }

    /// Takes the next compressed piece in. After a fault, and once the first JSON value is
    /// complete, nothing more is decoded: a node stops reading there too.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut input = InBuffer::around(chunk);
        // A full output buffer may leave decoded bytes inside of the decoder: once more, then.
        let mut more = false;
        while self.wants_more() && (more || input.pos() < chunk.len()) {
            let mut output = OutBuffer::around(&mut self.piece[..]);
            let Ok(hint) = self.decoder.run(&mut input, &mut output) else {
                self.fault = Some(ZstdFault::Broken);
                return;
            };
            let written = output.pos();
            more = written == PIECE;
            self.at_frame_end = hint == 0;
            self.decoded += written as u64;
            let over = self.decoded.saturating_sub(ZSTD_MAX_DECODED) as usize;
            self.scan.feed(&self.piece[..written.saturating_sub(over)]);
            if over > 0 && self.wants_more() {
                self.fault = Some(ZstdFault::TooLarge);
            }
        }
    }

    /// The scan of what was decoded so far.
    pub fn scan(&self) -> &ModelScan {
        &self.scan
    }

    /// What is wrong with the compressed body, if anything is so far.
    pub fn fault(&self) -> Option<ZstdFault> {
        self.fault
    }

    /// The body has ended. A body cut in the middle of a frame is broken, unless the JSON was
    /// complete by then.
    pub fn finish(self) -> Result<Found, ZstdFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let found = self.scan.finish();
        if found.outcome == Outcome::Incomplete && !self.at_frame_end {
            return Err(ZstdFault::Broken);
        }
        Ok(found)
    }

    fn wants_more(&self) -> bool {
        self.fault.is_none() && !self.scan.root_closed() && !self.scan.failed()
    }
}

/// Decodes the first `length` bytes of a compressed body, within the limits above. `None` where it
/// does not hold as many.
pub fn decode_zstd(body: &[u8], length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length.min(ZSTD_MAX_DECODED)).ok()?;
    let mut decoder = Decoder::new().ok()?;
    decoder
        .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
        .ok()?;
    let mut plain = vec![0; length];
    let mut input = InBuffer::around(body);
    let mut done = 0;
    while done < length {
        let (before, read) = (done, input.pos());
        let mut output = OutBuffer::around(&mut plain[done..]);
        decoder.run(&mut input, &mut output).ok()?;
        done += output.pos();
        if done == before && input.pos() == read {
            return None;
        }
    }
    Some(plain)
}

impl std::fmt::Debug for ZstdScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZstdScan")
            .field("scan", &self.scan)
            .field("decoded", &self.decoded)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
