//! The next piece of a body, and what of it goes to Pingora's buffer for another attempt.
//!
//! Pingora sends a body that was read to its end only where that buffer holds something, and then
//! begins with it. It holds 64 KiB at most, and nothing once more than that has come; but what it
//! holds need not be all: `Body::outgoing` puts all out in its place.

use std::future::poll_fn;

use bytes::Bytes;
use pingora::Result;
use pingora::prelude::{ErrorType, OrErr};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::HttpSession as Http2;

use super::RETRY_BUFFER;

/// Reads on, after `read` bytes of a body of this length.
///
/// - With a length, the buffer gets what comes from the read at which at most 64 KiB remain.
/// - Without one over HTTP/1.1, it gets all: what ends a body is then still to come for Pingora.
/// - Without one over HTTP/2, where any frame may be the last, it gets the first that is not empty:
///   one of 16 KiB at most, for we allow none larger.
pub(super) async fn next(
    body: &mut ServerSession,
    length: Option<u64>,
    read: u64,
) -> Result<Option<Bytes>> {
    let remaining = length.map_or(0, |length| length.saturating_sub(read));
    if remaining <= RETRY_BUFFER {
        body.enable_retry_buffering(); // the first call counts
    }
    match body {
        ServerSession::H2(http2) if length.is_none() && read > 0 => beside_the_buffer(http2).await,
        body => body.read_request_body().await,
    }
}

/// Pingora's own read does the same, and writes to the buffer.
async fn beside_the_buffer(body: &mut Http2) -> Result<Option<Bytes>> {
    let piece = poll_fn(|context| body.poll_read_body_bytes(context)).await;
    piece.transpose().or_err(
        ErrorType::ReadError,
        "while reading downstream request body",
    )
}
