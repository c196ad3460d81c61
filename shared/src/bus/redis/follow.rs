//! Follows the document and what is in flight: announcements on a connection of its own, and a look at the key now and then,
//! which makes up for what was not heard. Begins anew whenever the connection is lost.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::aio::PubSubStream;
use bb8_redis::redis::{Msg, RedisError, Value};
use futures_util::StreamExt;
use tokio::time::MissedTickBehavior;

use super::{Inner, words};
use crate::bus::BusError;
use crate::published::Published;

/// Before the first and between the last attempts to connect again.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Follows until it is aborted.
pub(super) async fn follow(bus: Arc<Inner>) {
    let mut rng = match bus.options.seed {
        Some(seed) => fastrand::Rng::with_seed(seed),
        None => fastrand::Rng::new(),
    };
    let (mut wait, mut told) = (SHORTEST, false);
    loop {
        let mut heard = false;
        let Err(why) = listen(&bus, &mut heard).await;
        bus.connected.send_replace(false);
        if heard {
            (wait, told) = (SHORTEST, false);
        }
        if !told {
            tracing::warn!(why = %why, "the bus is not heard; what is in force stays, and it is tried again");
            told = true;
        }
        // half of it at random: when Redis comes back, not all come at once
        tokio::time::sleep(wait.mul_f64(0.5 + rng.f64() / 2.0)).await;
        wait = (wait * 2).min(LONGEST);
    }
}

/// Hears announcements until that fails; `heard` says whether it ever worked.
async fn listen(bus: &Inner, heard: &mut bool) -> Result<std::convert::Infallible, BusError> {
    let within = Within(bus.options.patience);
    let mut pubsub = within.have(bus.client.get_async_pubsub()).await?;
    within
        .have(pubsub.subscribe(&[&bus.names.announcements, &bus.names.loads]))
        .await?;
    let (mut sink, mut stream) = pubsub.split();
    // now that nothing can be missed any more
    look(bus).await?;
    if bus
        .connected
        .send_if_modified(|connected| !std::mem::replace(connected, true))
        || !*heard
    {
        tracing::info!("the bus is heard");
    }
    *heard = true;
    let mut tick = tokio::time::interval(bus.options.poll);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    loop {
        tokio::select! {
            message = next(&mut stream) => hear(bus, &message?),
            _ = tick.tick() => {
                // a connection may be dead without anybody having said so; any answer will do, and its shape
                // is another one while there are subscriptions
                within.have(sink.ping::<Value>()).await?;
                look(bus).await?;
            }
        }
    }
}

async fn next(stream: &mut PubSubStream) -> Result<Msg, BusError> {
    let message = stream.next().await;
    message.ok_or_else(|| BusError::Unreachable("the connection ended".to_owned()))
}

fn hear(bus: &Inner, message: &Msg) {
    let text = message.get_payload_bytes();
    if message.get_channel_name() == bus.names.loads {
        // a load that cannot be read is another version's, and most who follow do not listen to them
        if bus.loads.receiver_count() > 0
            && let Ok(load) = serde_json::from_slice(text)
        {
            let _ = bus.loads.send(Arc::new(load));
        }
        return;
    }
    match serde_json::from_slice::<Published>(text) {
        Ok(published) => bus.saw(published),
        Err(error) => tracing::error!(%error, "an announcement cannot be read"),
    }
}

/// Takes what the key holds, if it is newer than what was seen.
async fn look(bus: &Inner) -> Result<(), BusError> {
    let seen = bus.fleet.borrow().as_ref().map(|seen| seen.revision());
    let held = bus.revision().await?;
    if held.is_none() || held <= seen {
        return Ok(());
    }
    match bus.fleet().await {
        Ok(Some(published)) => bus.saw(published),
        Ok(None) => {}
        // the connection is fine, so what is heard goes on
        Err(BusError::Garbled(why)) => {
            tracing::error!(why, "the bus holds no document that can be read");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// How long each step may take.
struct Within(Duration);

impl Within {
    async fn have<T>(
        &self,
        step: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, BusError> {
        match tokio::time::timeout(self.0, step).await {
            Ok(done) => done.map_err(|error| BusError::Unreachable(words(&error))),
            Err(_) => Err(BusError::Unreachable("no answer in time".to_owned())),
        }
    }
}
