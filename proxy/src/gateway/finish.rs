//! The last account of a request: metrics, access line, and what its last bytes say of the runner.

use std::time::{Instant, SystemTime};

use pingora::prelude::{Error, ErrorSource};
use pingora_proxy::Session;

use super::Gateway;
use super::ctx::RequestCtx;
use crate::edge;
use crate::fleet::Node;
use crate::request::route::Route;
use crate::telemetry::access_log::{AccessLine, timestamp};
use crate::telemetry::metrics::{Finished, Metrics};
use crate::telemetry::series::SeriesKey;
use crate::telemetry::usage::{Used, hour_of};
use crate::upstream::retry::{Judgement, names_the_runner};
use crate::upstream::usage::Tokens;

impl Gateway {
    /// Called once for each request, whatever became of it.
    pub(super) fn account(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        ctx: &mut RequestCtx,
    ) {
        let now = Instant::now();
        let status = session
            .response_written()
            .map_or(0, |head| head.status.as_u16());
        Self::note_runner(ctx, now);
        let tokens = tokens(ctx, status);
        let outcome = ctx.outcome.unwrap_or_else(|| outcome(ctx, status, error));
        let node = ctx.node.take();
        self.count_usage(ctx, node.as_deref(), status, tokens);
        let serial = node.as_ref().map_or(0, |node| node.serial());
        let node = node.as_ref().map_or("", |node| node.name());
        let duration = now - ctx.began;
        if outcome == "client_gone" && session.is_http2() {
            edge::broken_off(session, duration);
        }
        let (key, user) = Self::count_caller(&self.metrics, ctx, tokens);
        self.metrics.finished(&Finished {
            key: SeriesKey {
                route: ctx.route.label(),
                model: ctx
                    .resolved
                    .entry
                    .as_ref()
                    .map_or(u32::MAX, |entry| entry.id.0),
                node: serial,
                status,
            },
            model: ctx.resolved.label(),
            node,
            duration,
            first_byte: ctx.first_byte.filter(|_| !node.is_empty()),
            tokens,
        });
        if self.access_log.is_on() {
            self.access_log.write(&AccessLine {
                time: timestamp(SystemTime::now() - duration),
                id: &ctx.id,
                method: method_label(&session.req_header().method),
                route: ctx.route.label(),
                model: shown_model(ctx),
                to: ctx.shown.to.as_deref(),
                alias: ctx.resolved.alias_label(),
                node,
                status,
                outcome,
                attempts: ctx.attempts,
                queue_ms: 0,
                first_byte: ctx.first_byte,
                duration,
                bytes_in: session.downstream_session.body_bytes_read() as u64,
                bytes_out: ctx.tail.total,
                tokens_prompt: tokens.prompt,
                tokens_output: tokens.output,
                key,
                user,
            });
        }
        Self::give_back(ctx);
    }

    /// Gives back every place that the request held.
    fn give_back(ctx: &mut RequestCtx) {
        ctx.permit = None;
        ctx.attempt = None;
        ctx.open = None;
        ctx.turn = None;
        ctx.front = None;
        ctx.here = None;
    }

    /// Counts what needs a caller under its id; gives the id and the user that it named.
    fn count_caller<'a>(
        metrics: &Metrics,
        ctx: &'a RequestCtx,
        tokens: Tokens,
    ) -> (&'a str, &'a str) {
        let caller = ctx.caller.as_ref();
        let caller = caller.filter(|_| ctx.route.scope(ctx.dialect).is_some());
        let Some(caller) = caller else {
            return ("", "");
        };
        metrics.called(&caller.grant.id, tokens);
        (&caller.grant.id, caller.user().unwrap_or(""))
    }

    /// Counts what a node did for a caller, for the control plane.
    fn count_usage(&self, ctx: &RequestCtx, node: Option<&Node>, status: u16, tokens: Tokens) {
        let Route::Node(route) = ctx.route else {
            return;
        };
        if let (Some(usage), Some(node), Some(caller), 200) =
            (&self.usage, node, &ctx.caller, status)
            && route.uses_model()
        {
            let entry = ctx.resolved.entry.as_ref();
            let used = Used {
                key: &caller.grant.id,
                model: (
                    entry.map_or(u32::MAX, |entry| entry.id.0),
                    ctx.resolved.label(),
                ),
                node: (node.serial(), node.name()),
                tokens,
            };
            usage.count(hour_of(SystemTime::now()), &used);
        }
    }

    /// A 500 that was relayed, or an error line within a stream, speaks against the runner only
    /// where its text names it.
    fn note_runner(ctx: &mut RequestCtx, now: Instant) {
        let relayed = ctx.judgement == Some(Judgement::Suspicious) || ctx.tail.ends_in_error();
        if relayed
            && names_the_runner(ctx.tail.bytes())
            && let Some(permit) = &mut ctx.permit
        {
            permit.runner_failed(now);
        }
    }
}

/// What a node said that its answer took.
fn tokens(ctx: &RequestCtx, status: u16) -> Tokens {
    if ctx.node.is_some() && status == 200 {
        ctx.tail.tokens()
    } else {
        Tokens::default()
    }
}

/// The model in the access line: of a change as its body names it, else as the fleet knows it.
fn shown_model(ctx: &RequestCtx) -> &str {
    if ctx.shown.model.is_empty() {
        ctx.resolved.label()
    } else {
        &ctx.shown.model
    }
}

/// How a request without another verdict ended.
fn outcome(ctx: &RequestCtx, status: u16, error: Option<&Error>) -> &'static str {
    if let Some(error) = error {
        return if *error.esource() == ErrorSource::Downstream {
            "client_gone"
        } else {
            "broken"
        };
    }
    match status {
        200..=399
            if matches!(ctx.route, Route::Node(_) | Route::Store(_)) && ctx.resolved.stream =>
        {
            if ctx.tail.ends_in_error() {
                "error"
            } else if ctx.tail.has_terminator() {
                "ok"
            } else {
                // a clean end without the dialect's last word: relayed as it is (ollama-api.md §3.1)
                "unfinished"
            }
        }
        200..=399 => "ok",
        _ => "error",
    }
}

/// A method from a table: a client may send any word.
fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        "PUT" => "PUT",
        _ => "other",
    }
}
