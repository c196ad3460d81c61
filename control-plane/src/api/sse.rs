//! Server-sent events: how they are written, and a stream of them with signs of life. A stream holds one of
//! the hub's places and ends with the login that asked for it.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{FromRequest as _, HttpMessage as _, HttpRequest, HttpResponse, web};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::actor::{Actor, OnlyLook};
use crate::app::App;
use crate::auth::Permission;
use crate::problem::{ApiError, ApiResult};
use crate::store::Time;

/// Between two signs of life, at which it is also looked whether the login still holds. Proxies on the way
/// give up an idle connection after a minute or so; aivonx' own front door after 15.
const BEAT: Duration = Duration::from_secs(15);
/// A sign of life: a comment, which clients pass over.
const SIGN: &[u8] = b": \n\n";
/// How long a client waits before it comes back.
const FIRST: &[u8] = b"retry: 2000\n\n";

/// Where a stream's events come from.
pub(super) trait Source {
    /// The next event as it is written; `None` ends the stream. A call that is dropped loses nothing.
    async fn next(&mut self) -> Option<Bytes>;
}

/// One event as it is written. `data` has no line breaks, as JSON has none.
pub(super) fn frame(id: Option<i64>, name: &str, data: &str) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: {name}\ndata: {data}\n\n").into()
}

/// The id of the last event that a client has seen, as it says when it comes back.
pub(super) fn last_seen(request: &HttpRequest) -> Option<i64> {
    let id = request.headers().get("last-event-id")?;
    id.to_str().ok()?.trim().parse().ok()
}

/// A place for a stream, or why there is none.
pub(super) fn place(app: &App) -> ApiResult<OwnedSemaphorePermit> {
    app.events.place().ok_or_else(|| {
        ApiError::Unavailable("too many event streams are open; close some".to_owned())
    })
}

/// A login that is looked at again while a stream goes on.
struct Login {
    request: HttpRequest,
    expires: Option<Instant>,
}

impl Login {
    fn of(request: HttpRequest, actor: &Actor) -> Self {
        request.extensions_mut().insert(OnlyLook);
        let left = |until: Time| {
            (until.utc() - Time::now().utc())
                .to_std()
                .unwrap_or_default()
        };
        let expires = actor
            .until
            .and_then(|until| Instant::now().checked_add(left(until)));
        Self { request, expires }
    }

    async fn expired(&self) {
        match self.expires {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    async fn holds(&self) -> bool {
        match Actor::from_request(&self.request, &mut Payload::None).await {
            Ok(actor) => actor.may(Permission::ReadFleet).is_ok(),
            Err(ApiError::NoLogin | ApiError::BadToken(_) | ApiError::Forbidden(_)) => false,
            Err(_) => true, // a database that is away says nothing of the login
        }
    }
}

/// A stream that goes on.
struct Open<S> {
    source: S,
    login: Login,
    closed: watch::Receiver<bool>,
    beat: Interval,
    is_first: bool,
    _place: OwnedSemaphorePermit,
}

impl<S: Source> Open<S> {
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_first) {
            return Some(Bytes::from_static(FIRST)); // the client learns at once that it is heard
        }
        tokio::select! {
            biased;
            () = self.login.expired() => None,
            _ = self.closed.wait_for(|closed| *closed) => None,
            _ = self.beat.tick() => {
                self.login.holds().await.then(|| Bytes::from_static(SIGN))
            }
            event = self.source.next() => event,
        }
    }
}

/// The answer: events from `source` for as long as the actor's login holds.
pub(super) fn answer(
    app: &web::Data<App>,
    request: HttpRequest,
    actor: &Actor,
    place: OwnedSemaphorePermit,
    source: impl Source + 'static,
) -> HttpResponse {
    let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let open = Open {
        source,
        login: Login::of(request, actor),
        closed: app.events.closed(),
        beat,
        is_first: true,
        _place: place,
    };
    let events = stream::unfold(open, |mut open| async move {
        let bytes = open.next().await?;
        Some((Ok::<_, Infallible>(bytes), open))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no")) // nginx would gather them
        .streaming(events)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn an_event_is_written_as_its_readers_expect() {
        assert_eq!(
            &frame(Some(7), "change", "{}")[..],
            b"id: 7\nevent: change\ndata: {}\n\n"
        );
        assert_eq!(
            &frame(None, "health", "{}")[..],
            b"event: health\ndata: {}\n\n"
        );
    }

    #[test]
    fn only_a_number_is_an_id() {
        let with = |id: &'static str| {
            let request = TestRequest::default().insert_header(("last-event-id", id));
            last_seen(&request.to_http_request())
        };
        assert_eq!((with("12"), with("x")), (Some(12), None));
    }
}
