//! Finding the model in a request body while it arrives, without keeping or decoding the rest.
//!
//! Ollama reads a body with Go's `encoding/json` into a struct (`mime/multipart` for
//! `/v1/audio/transcriptions`), and the proxy must see the same model that a node will see: it
//! chooses the node by it, and a key's model list is held against it. So the rules here are Go's:
//! keys in any case and in any escaping, the last of several wins, `null` leaves what was there,
//! the first value ends the body. `request/body` feeds the chunks as it reads them.
//!
//! What holds, for any bytes in any split:
//! - The grammar is checked in full, strings and numbers and nesting (10,000 levels) included:
//!   the scan has failed exactly when Go reports a syntax error, at the byte where it does.
//! - [`ModelScan::root_closed`] turns true at the byte that completes the first value, never
//!   earlier and never for a broken one. Bytes after it are ignored. (A number at the root is
//!   complete at the byte after it, or at the end of the body.)
//! - Memory is bounded: typically some hundred bytes, 64 KiB at the very worst (long names of
//!   invalid UTF-8); a [`ZstdScan`] has a decoder with a window of up to 8 MiB besides.
//! - No input makes it panic, and the time grows with the length alone.
//!
//! The first three are those of JSON; what a form's scan promises stands in `multipart.rs`.
//!
//! Tests hold it to a plain recursive decoder (`reference.rs`), and that to a real Ollama.

#[cfg(test)]
mod agreement;
mod field;
mod json;
mod media_type;
mod multipart;
mod nesting;
#[cfg(test)]
mod reference;
mod scan;
mod skip;
#[cfg(test)]
mod tests;
mod text;
mod zstd_scan;

pub use field::{Field, Found, Given, Outcome, Root};
pub use scan::ModelScan;
pub use zstd_scan::{ZSTD_MAX_DECODED, ZstdFault, ZstdScan, decode_zstd};

pub(crate) use skip::plain;
pub(crate) use text::{key_is, unquote};
