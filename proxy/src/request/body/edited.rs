//! A body that was changed: how every attempt puts it out, what its head must say, and what may
//! still follow where only its beginning is in hand.

use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::{Body, BodyLimits, Coding, RETRY_BUFFER, Reach};
use crate::request::edit::{Cut, Splices, Wanted};
use crate::request::intent::has_work;
use crate::request::model_scan::{Found, ModelScan, decode_zstd};
use crate::request::rejection::Rejection;
use crate::request::route::NodeRoute;

/// What editing changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edited {
    /// How many bytes were read.
    read: usize,
    /// How many stand for them.
    length: usize,
    /// Whether Pingora's buffer holds all that was read; what follows there goes out as well.
    all_buffered: bool,
    /// Whether the body is no longer in zstd: what follows of it is left out.
    decoded: bool,
}

impl Edited {
    /// Whether this says what goes out; else it is as with a body that was not changed.
    pub(super) fn decides(self) -> bool {
        self.all_buffered || self.decoded
    }

    /// What goes out: the changed bytes on the first call of an attempt, and what follows them.
    pub(super) fn outgoing(
        self,
        changed: Option<Bytes>,
        incoming: Option<Bytes>,
        end: bool,
    ) -> Option<Bytes> {
        // of bytes that were not all buffered what comes first is their tail: left out as decoded
        let covered = if changed.is_some() { self.read } else { 0 };
        let ended = incoming.is_none();
        let rest = incoming
            .filter(|_| !self.decoded)
            .map(|mut bytes| bytes.split_off(covered.min(bytes.len())))
            .filter(|bytes| !bytes.is_empty());
        match (changed, rest) {
            (Some(changed), Some(rest)) => Some([changed, rest].concat().into()),
            (Some(only), None) | (None, Some(only)) => Some(only),
            // to Pingora nothing is the end, and empty bytes at the end are an end too many
            (None, None) => (!ended && !end).then(Bytes::new),
        }
    }
}

/// Looks at what streams on behind the part of a body that is in hand.
pub(super) struct Watch {
    scan: ModelScan,
    /// The model so far.
    model: Option<String>,
    /// No further `model` may come: the alias was rewritten in what is in hand.
    model_is_final: bool,
    /// No further `keep_alive` may come: it could not be held to its bounds.
    keep_alive_is_final: bool,
    /// No further prompt, messages or input may come: they could take back the work that is asked.
    work_is_final: bool,
    /// What there was before.
    found: Found,
}

impl Watch {
    pub(super) fn new(scan: ModelScan) -> Self {
        Self {
            model: scan.model().map(str::to_owned),
            found: scan.so_far().clone(),
            scan,
            model_is_final: false,
            keep_alive_is_final: false,
            work_is_final: false,
        }
    }

    /// Lets bytes pass, or says why not.
    pub(super) fn pass(&mut self, fresh: &[u8]) -> Result<(), Rejection> {
        self.scan.feed(fresh);
        let (now, then) = (self.scan.so_far().given, self.found.given);
        let renamed = self.model_is_final && now.model != then.model;
        if renamed || self.scan.model() != self.model.as_deref() {
            return Err(Rejection::SecondModel);
        }
        if self.keep_alive_is_final && now.keep_alive != then.keep_alive {
            return Err(Rejection::LateKeepAlive);
        }
        if self.work_is_final && now.work != then.work {
            return Err(Rejection::LateWork);
        }
        Ok(())
    }
}

impl Body {
    /// Whether the rest of the body is still with the client and will not be held.
    pub(crate) fn streams_on(&self) -> bool {
        self.reach == Reach::StreamsOn
    }

    /// Sees to it that what streams on takes back no work that the part in hand asks for; false
    /// where no work is seen there.
    pub(crate) fn hold_to_work(&mut self, session: &Session, route: NodeRoute) -> bool {
        let held = self.held(session);
        let watch = self.watch.as_mut();
        match watch.filter(|watch| has_work(route, &held, watch.found.given.work)) {
            Some(watch) => {
                watch.work_is_final = true;
                true
            }
            None => false,
        }
    }

    /// What is held of the body, decoded, for a closer look. `None` where it cannot be decoded, or
    /// may not be for want of memory.
    pub(crate) fn plain(
        &mut self,
        session: &Session,
        found: &Found,
        limits: &BodyLimits,
    ) -> Option<Bytes> {
        let held = self.held(session);
        self.decoded(held, found, limits)
    }

    fn decoded(&mut self, held: Bytes, found: &Found, limits: &BodyLimits) -> Option<Bytes> {
        if self.coding == Coding::Plain || self.edited.is_some() {
            return Some(held);
        }
        let length = found.end.filter(|_| !self.streams_on())?;
        if length > RETRY_BUFFER {
            // kept until the body is given up, though the old bytes are still there as well
            let more = limits.budget.take(length)?;
            self.charge = Some(more);
        }
        Some(decode_zstd(&held, length)?.into())
    }

    /// What was read, as it came or as it was changed.
    fn held(&self, session: &Session) -> Bytes {
        match &self.stash {
            Some(stash) => stash.clone(),
            None => session
                .downstream_session
                .get_retry_buffer()
                .unwrap_or_default(),
        }
    }

    /// Makes what is held say what is wanted.
    pub(crate) fn edit(
        &mut self,
        session: &Session,
        wanted: &Wanted,
        found: &mut Found,
        route: NodeRoute,
        limits: &BodyLimits,
    ) -> Result<(), Rejection> {
        if self.coding == Coding::Zstd && self.streams_on() {
            return Err(Rejection::BodyTooLarge(limits.each));
        }
        let held = self.held(session);
        let read = held.len();
        let plain = self
            .decoded(held, found, limits)
            .ok_or(Rejection::BodyMemory)?;
        let splices = self.plan(wanted, found, route, &plain)?;
        if let Some(watch) = &mut self.watch {
            watch.model_is_final = wanted.model.is_some();
            watch.keep_alive_is_final = wanted.keep_alive.is_some();
        }
        if splices.is_empty() {
            return Ok(());
        }
        let changed = splices.apply(&plain);
        self.edited = Some(Edited {
            read,
            length: changed.len(),
            all_buffered: self.stash.is_none(),
            decoded: self.coding == Coding::Zstd,
        });
        self.stash = Some(changed);
        Ok(())
    }

    /// Changes it once more for another attempt. False where the bytes are no longer in hand.
    pub(crate) fn edit_again(
        &mut self,
        wanted: &Wanted,
        found: &mut Found,
        route: NodeRoute,
    ) -> bool {
        if !self.can_edit_again() {
            return false;
        }
        let (Some(stash), Some(edited)) = (self.stash.clone(), self.edited) else {
            return false;
        };
        let Ok(splices) = self.plan(wanted, found, route, &stash) else {
            return false;
        };
        let changed = splices.apply(&stash);
        self.edited = Some(Edited {
            length: changed.len(),
            ..edited
        });
        self.stash = Some(changed);
        true
    }

    /// Whether it was changed and could be again.
    pub(crate) fn can_edit_again(&self) -> bool {
        self.edited.is_some() && !self.streams_on() && !self.streamed
    }

    fn plan(
        &self,
        wanted: &Wanted,
        found: &mut Found,
        route: NodeRoute,
        body: &[u8],
    ) -> Result<Splices, Rejection> {
        let splices = Splices::plan(wanted, found, route, body, !self.streams_on()).map_err(
            |cut| match cut {
                Cut::Model => Rejection::SecondModel,
                Cut::KeepAlive => Rejection::LateKeepAlive,
            },
        )?;
        if let (Some((from, to)), Some(model)) = (&mut found.model_at, &wanted.model) {
            *to = *from + model.len() as u64;
        }
        Ok(splices)
    }

    /// Makes a head to a node fit the changed body.
    pub(crate) fn frame(&self, head: &mut RequestHeader) -> Result<()> {
        let Some(edited) = &self.edited else {
            return Ok(());
        };
        if edited.decoded {
            head.remove_header(&header::CONTENT_ENCODING);
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length: Option<usize> =
            length.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        match length {
            Some(length) => head.insert_header(
                "Content-Length",
                (length + edited.length).saturating_sub(edited.read),
            ),
            None => Ok(()), // chunked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(
        edited: Edited,
        first: bool,
        incoming: Option<&'static str>,
        end: bool,
    ) -> Option<String> {
        let changed = first.then(|| Bytes::from_static(b"new"));
        let incoming = incoming.map(|text| Bytes::from_static(text.as_bytes()));
        edited
            .outgoing(changed, incoming, end)
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn the_changed_bytes_stand_for_those_that_were_read() {
        let edited = Edited {
            read: 3,
            length: 3,
            all_buffered: true,
            decoded: false,
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(outgoing(edited, true, Some("old"), true), text("new"));
        // what followed in the buffer by the time of another attempt
        assert_eq!(outgoing(edited, true, Some("old +"), false), text("new +"));
        assert_eq!(outgoing(edited, false, Some(" more"), false), text(" more"));
        assert_eq!(outgoing(edited, false, None, true), None);
    }

    #[test]
    fn what_follows_compressed_is_left_out() {
        let edited = Edited {
            read: 9,
            length: 3,
            all_buffered: false,
            decoded: true,
        };
        assert_eq!(
            outgoing(edited, true, Some("tail"), false),
            Some("new".to_owned())
        );
        assert_eq!(
            outgoing(edited, false, Some("more"), false),
            Some(String::new())
        );
        assert_eq!(outgoing(edited, false, Some("more"), true), None);
        assert_eq!(outgoing(edited, false, None, true), None);
    }
}
