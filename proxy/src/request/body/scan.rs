//! Which scanner looks at a body, by its route and its headers, and what it found so far.

use http::header;
use pingora_proxy::Session;

use super::Coding;
use crate::request::model_scan::{Found, ModelScan, ZstdScan};
use crate::request::route::NodeRoute;

/// Scans JSON, a form or compressed JSON; or nothing, where only a node can judge the body.
pub(super) enum Scan {
    Plain(ModelScan),
    Zstd(Box<ZstdScan>),
    None,
}

impl Scan {
    pub(super) fn of(session: &Session, route: NodeRoute) -> Self {
        let header = |name| {
            session
                .req_header()
                .headers
                .get(name)
                .map_or(&b""[..], |value| value.as_bytes())
        };
        if route == NodeRoute::V1Transcriptions {
            return ModelScan::for_form(header(header::CONTENT_TYPE))
                .map_or(Self::None, Self::Plain);
        }
        if route.reads_zstd() && header(header::CONTENT_ENCODING).eq_ignore_ascii_case(b"zstd") {
            return ZstdScan::json().map_or(Self::None, |scan| Self::Zstd(Box::new(scan)));
        }
        Self::Plain(ModelScan::json())
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) {
        match self {
            Self::Plain(scan) => scan.feed(chunk),
            Self::Zstd(scan) => scan.feed(chunk),
            Self::None => {}
        }
    }

    /// Whether nothing that follows can change what was found.
    pub(super) fn settled(&self) -> bool {
        match self {
            Self::Plain(scan) => scan.root_closed() || scan.failed(),
            Self::Zstd(scan) => {
                scan.fault().is_some() || scan.scan().root_closed() || scan.scan().failed()
            }
            Self::None => true,
        }
    }

    pub(super) fn has_model(&self) -> bool {
        match self {
            Self::Plain(scan) => scan.model().is_some(),
            Self::Zstd(scan) => scan.scan().model().is_some(),
            Self::None => false,
        }
    }

    pub(super) fn so_far(&self) -> Found {
        match self {
            Self::Plain(scan) => scan.so_far().clone(),
            Self::Zstd(scan) => scan.scan().so_far().clone(),
            Self::None => Found::unjudged(),
        }
    }

    pub(super) fn coding(&self) -> Coding {
        match self {
            Self::Zstd(_) => Coding::Zstd,
            Self::Plain(_) | Self::None => Coding::Plain,
        }
    }

    pub(super) fn finish(self) -> Found {
        match self {
            Self::Plain(scan) => scan.finish(),
            Self::Zstd(scan) => scan.finish().unwrap_or_else(|_| Found::unjudged()),
            Self::None => Found::unjudged(),
        }
    }
}
