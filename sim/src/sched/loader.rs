//! The one loader of a node: takes requests from the queue in order and makes room for them.

use std::sync::Arc;

use tokio::sync::Notify;

use super::runner::Runner;
use super::{Pending, RunnerRef, Sched};
use crate::answer::ApiError;

/// Works off the queue for as long as the node lives.
pub(crate) async fn run_loader(sched: Arc<Sched>) {
    loop {
        let arrived = sched.arrived.notified();
        let next = sched.inner.lock().queue.pop_front();
        match next {
            Some(pending) => serve(&sched, pending).await,
            None => arrived.await,
        }
    }
}

/// What stands between a request and its runner.
enum Obstacle {
    None(Arc<Runner>),
    /// This one has to go first.
    Victim(Arc<Runner>),
    /// There is room: load.
    Load,
}

async fn serve(sched: &Arc<Sched>, mut pending: Pending) {
    loop {
        if pending.reply.is_closed() {
            return;
        }
        let changed = sched.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        match obstacle(sched, &pending) {
            Obstacle::None(runner) => {
                let granted = RunnerRef::new(sched, runner, &pending.demand);
                let _ = pending.reply.send(Ok(granted));
                return;
            }
            Obstacle::Victim(victim) => {
                sched.expire_runner(&victim);
                if sched
                    .inner
                    .lock()
                    .runners
                    .iter()
                    .any(|r| Arc::ptr_eq(r, &victim))
                {
                    changed.await;
                }
            }
            Obstacle::Load => match load(sched, &mut pending).await {
                Loaded::Yes => {}
                Loaded::GivenUp => return,
                Loaded::Died => {
                    let text = "llama-server process has terminated: signal: killed";
                    let _ = pending.reply.send(Err(ApiError::new(500, text)));
                    return;
                }
            },
        }
    }
}

fn obstacle(sched: &Sched, pending: &Pending) -> Obstacle {
    let inner = sched.inner.lock();
    if let Some(runner) = inner.find(&pending.demand) {
        return if runner.needs_reload(&pending.demand) {
            Obstacle::Victim(runner)
        } else {
            Obstacle::None(runner)
        };
    }
    let used: u64 = inner.runners.iter().map(|r| r.model.memory()).sum();
    let needed = pending.demand.model.memory();
    let is_full = inner.runners.len() >= sched.limits.max_loaded
        || used.saturating_add(needed) > sched.limits.memory;
    match victim(&inner.runners).filter(|_| is_full) {
        Some(victim) => Obstacle::Victim(victim),
        None => Obstacle::Load,
    }
}

/// The idle runner of the shortest keep-alive, else the first of that order.
fn victim(runners: &[Arc<Runner>]) -> Option<Arc<Runner>> {
    let mut order: Vec<_> = runners.to_vec();
    order.sort_by_key(|r| r.life.lock().keep_alive.length());
    let idle = order.iter().find(|r| r.life.lock().users == 0).cloned();
    idle.or_else(|| order.first().cloned())
}

enum Loaded {
    Yes,
    /// The client has left: the load is thrown away.
    GivenUp,
    Died,
}

async fn load(sched: &Arc<Sched>, pending: &mut Pending) -> Loaded {
    let spec = &pending.demand.model.spec;
    let (begun, ready) = (sched.clock.now(), sched.clock.now() + spec.load_time);
    let killed = Arc::new(Notify::new());
    sched.inner.lock().loading = Some((spec.weights_digest.clone(), Arc::clone(&killed)));
    let outcome = tokio::select! {
        biased;
        () = killed.notified() => Loaded::Died,
        () = pending.reply.closed() => Loaded::GivenUp,
        () = sched.clock.sleep_until(ready) => Loaded::Yes,
    };
    if let Loaded::GivenUp = outcome {
        sched
            .clock
            .sleep_until(begun + spec.start_time.min(spec.load_time))
            .await;
    }
    let mut inner = sched.inner.lock();
    inner.loading = None;
    if let Loaded::Yes = outcome {
        let runner = Runner::new(&pending.demand, &sched.limits);
        inner.runners.push(Arc::new(runner));
    }
    outcome
}
