//! The scan of one body, JSON or form.

use super::field::{Found, Outcome};
use super::json::JsonScan;
use super::media_type::boundary;
use super::multipart::MultipartScan;

/// A scan in progress. Feed it the body in any pieces, ask it at any time.
#[derive(Debug)]
pub struct ModelScan(Kind);

#[derive(Debug)]
enum Kind {
    Json(JsonScan),
    Multipart(Box<MultipartScan>),
}

impl ModelScan {
    /// For every route but one: Ollama reads JSON whatever the Content-Type says.
    pub fn json() -> Self {
        Self(Kind::Json(JsonScan::new()))
    }

    /// For a form whose boundary is known.
    pub fn multipart(boundary: &[u8]) -> Self {
        Self(Kind::Multipart(Box::new(MultipartScan::new(boundary))))
    }

    /// For `/v1/audio/transcriptions`: a scan by the Content-Type's value, `None` where it is not
    /// `multipart/form-data` with a boundary (a node answers 400).
    pub fn for_form(content_type: &[u8]) -> Option<Self> {
        boundary(content_type).map(|boundary| Self::multipart(&boundary))
    }

    /// Takes the next piece of the body in.
    pub fn feed(&mut self, chunk: &[u8]) {
        match &mut self.0 {
            Kind::Json(scan) => scan.feed(chunk),
            Kind::Multipart(scan) => scan.feed(chunk),
        }
    }

    /// Whether the first JSON value is complete, or the form's closing boundary was seen.
    pub fn root_closed(&self) -> bool {
        self.so_far().end.is_some()
    }

    /// Whether it can be no valid body any more, whatever follows.
    pub fn failed(&self) -> bool {
        self.so_far().outcome == Outcome::Broken
    }

    /// `model` so far: in JSON a later one may replace it until the root closes.
    pub fn model(&self) -> Option<&str> {
        self.so_far().model.text()
    }

    /// `name` so far.
    pub fn name(&self) -> Option<&str> {
        self.so_far().name.text()
    }

    /// Everything so far; its outcome is `Incomplete` until the root closes.
    pub fn so_far(&self) -> &Found {
        match &self.0 {
            Kind::Json(scan) => scan.found(),
            Kind::Multipart(scan) => scan.found(),
        }
    }

    /// The body has ended: what was in it.
    pub fn finish(self) -> Found {
        match self.0 {
            Kind::Json(scan) => scan.finish(),
            Kind::Multipart(scan) => scan.finish(),
        }
    }
}
