//! A loaded model: its slots, what each slot remembers, and how long it stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Demand, KeepAlive, Limits, LoadOptions, Resident, Sched};
use crate::answer::ApiError;
use crate::prompt::{BLOCK, Prompt};
use crate::store::Installed;

/// Families whose runners have one slot whatever the node says.
const ONE_SLOT: [&str; 8] = [
    "mllama",
    "qwen3vl",
    "qwen3vlmoe",
    "qwen35",
    "qwen35moe",
    "qwen3next",
    "lfm2",
    "nemotron_h",
];

#[derive(Debug)]
pub(super) struct Runner {
    pub(super) model: Arc<Installed>,
    load: LoadOptions,
    /// FIFO, as Go's weighted semaphore is.
    free: Arc<Semaphore>,
    slots: Mutex<Vec<SlotState>>,
    pub(super) life: Mutex<Life>,
    dead: AtomicBool,
    died: Notify,
    /// Held by the slot that evaluates its prompt: prompts go one after the other.
    prompts: Arc<tokio::sync::Mutex<()>>,
    /// That evaluation, for the tokens of the other slots.
    window: Mutex<Option<Window>>,
}

/// A prompt being evaluated: until its end, tokens of other slots come only between its batches.
#[derive(Clone, Copy, Debug)]
struct Window {
    begun: Duration,
    end: Duration,
    batch: Duration,
}

/// Tokens of a prompt (as counted here) that llama-server evaluates in one go.
const BATCH: usize = 256;

/// Who uses a runner and when it goes.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) users: usize,
    pub(super) keep_alive: KeepAlive,
    /// Counts every change, so that an old timer knows it is old.
    epoch: u64,
    /// When it goes, while it is idle.
    expires_at: Option<Duration>,
}

/// A slot and the prompt whose state it still holds.
#[derive(Debug, Default)]
struct SlotState {
    busy: bool,
    used_at: Duration,
    cached: Vec<u32>,
}

impl Runner {
    pub(super) fn new(demand: &Demand, limits: &Limits) -> Self {
        let spec = &demand.model.spec;
        let one = !spec.can("completion") || ONE_SLOT.contains(&spec.details.family.as_str());
        let slots = if one { 1 } else { limits.num_parallel.max(1) };
        Self {
            model: Arc::clone(&demand.model),
            load: demand.load.clone(),
            free: Arc::new(Semaphore::new(slots)),
            slots: Mutex::new((0..slots).map(|_| SlotState::default()).collect()),
            life: Mutex::new(Life {
                users: 0,
                keep_alive: demand.keep_alive.unwrap_or(limits.keep_alive),
                epoch: 0,
                expires_at: None,
            }),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            prompts: Arc::default(),
            window: Mutex::default(),
        }
    }

    pub(super) fn weights(&self) -> &str {
        &self.model.spec.weights_digest
    }

    pub(super) fn needs_reload(&self, demand: &Demand) -> bool {
        self.load != demand.load
    }

    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.died.notify_waiters();
    }

    pub(super) fn resident(&self, now: Duration) -> Resident {
        let life = self.life.lock();
        let after = match life.keep_alive {
            KeepAlive::For(d) => d,
            KeepAlive::Forever => Duration::from_hours(292 * 365 * 24),
        };
        Resident {
            model: Arc::clone(&self.model),
            num_ctx: self.load.num_ctx,
            expires_at: life.expires_at.unwrap_or(now.saturating_add(after)),
        }
    }
}

/// A request's hold on a runner. Dropping it is the only release.
#[derive(Debug)]
pub(crate) struct RunnerRef {
    runner: Arc<Runner>,
    sched: Weak<Sched>,
}

impl RunnerRef {
    pub(super) fn new(sched: &Arc<Sched>, runner: Arc<Runner>, demand: &Demand) -> Self {
        {
            let mut life = runner.life.lock();
            life.users += 1;
            life.epoch += 1;
            life.expires_at = None;
            if let Some(keep_alive) = demand.keep_alive {
                life.keep_alive = keep_alive;
            }
        }
        Self {
            runner,
            sched: Arc::downgrade(sched),
        }
    }

    /// A runner at ollama.com: no load, no queue, and nothing of it in this node's memory.
    pub(crate) fn elsewhere(demand: &Demand) -> Self {
        let limits = Limits {
            num_parallel: 1,
            max_queue: 0,
            max_loaded: 1,
            memory: u64::MAX,
            keep_alive: KeepAlive::Forever,
        };
        Self {
            runner: Arc::new(Runner::new(demand, &limits)),
            sched: Weak::new(),
        }
    }

    /// The context of one slot in tokens.
    pub(crate) fn num_ctx(&self) -> u64 {
        self.runner.load.num_ctx
    }

    /// Waits for a slot, in the order of asking.
    pub(crate) async fn slot(self, prompt: &Prompt) -> Result<Slot, ApiError> {
        let free = Arc::clone(&self.runner.free);
        let permit = free.acquire_owned().await.map_err(|_| gone())?;
        if self.is_dead() {
            return Err(gone());
        }
        let (index, reused) = self.pick(prompt);
        Ok(Slot {
            hold: self,
            index,
            reused,
            _permit: permit,
        })
    }

    /// The idle slot that knows most of this prompt, else the one idle longest.
    fn pick(&self, prompt: &Prompt) -> (usize, usize) {
        let mut slots = self.runner.slots.lock();
        let known = |slot: &SlotState| {
            slot.cached
                .iter()
                .zip(&prompt.blocks)
                .take_while(|(a, b)| a == b)
                .count()
        };
        let idle = || slots.iter().enumerate().filter(|(_, s)| !s.busy);
        let best = idle()
            .map(|(i, s)| (i, known(s)))
            .max_by_key(|&(i, n)| (n, std::cmp::Reverse(i)))
            .filter(|&(_, n)| n * 10 > prompt.blocks.len());
        let (index, blocks) = best
            .or_else(|| idle().min_by_key(|(_, s)| s.used_at).map(|(i, _)| (i, 0)))
            .unwrap_or_default();
        slots[index].busy = true;
        slots[index].cached.clone_from(&prompt.blocks);
        let reused = if blocks == prompt.blocks.len() && blocks > 0 {
            prompt.tokens.saturating_sub(1)
        } else {
            blocks * BLOCK
        };
        (index, reused)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.runner.dead.load(Ordering::Acquire)
    }

    /// Returns when the process has been killed.
    pub(crate) async fn died(&self) {
        let died = self.runner.died.notified();
        tokio::pin!(died);
        died.as_mut().enable();
        if !self.is_dead() {
            died.await;
        }
    }
}

fn gone() -> ApiError {
    ApiError::new(500, "llama-server process no longer running: unknown ")
}

impl Drop for RunnerRef {
    fn drop(&mut self) {
        let Some(sched) = self.sched.upgrade() else {
            return;
        };
        let timer = {
            let mut life = self.runner.life.lock();
            life.users -= 1;
            life.epoch += 1;
            if life.users > 0 {
                return;
            }
            if life.keep_alive.is_zero() {
                None
            } else {
                let now = sched.clock.now();
                if let KeepAlive::For(d) = life.keep_alive {
                    life.expires_at = Some(now.saturating_add(d));
                }
                Some((life.epoch, life.expires_at))
            }
        };
        match timer {
            None => sched.remove(&self.runner),
            Some((epoch, at)) => {
                sched.changed.notify_waiters();
                if let Some(at) = at {
                    expire_later(&sched, &self.runner, epoch, at);
                }
            }
        }
    }
}

/// Lets the runner go at `at` unless it was used since.
fn expire_later(sched: &Arc<Sched>, runner: &Arc<Runner>, epoch: u64, at: Duration) {
    let Ok(handle) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let (sched, runner, clock) = (
        Arc::downgrade(sched),
        Arc::downgrade(runner),
        sched.clock.clone(),
    );
    handle.spawn(async move {
        clock.sleep_until(at).await;
        if let (Some(sched), Some(runner)) = (sched.upgrade(), runner.upgrade())
            && runner.life.lock().epoch == epoch
        {
            sched.remove(&runner);
        }
    });
}

/// A slot in use. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) hold: RunnerRef,
    index: usize,
    /// Tokens of the prompt it need not evaluate again.
    pub(crate) reused: usize,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Waits for the turn of a prompt that will take `span` for `tokens`; over when dropped.
    pub(crate) async fn prompt_turn(&self, span: Duration, tokens: usize) -> PromptTurn {
        let runner = Arc::clone(&self.hold.runner);
        let turn = Arc::clone(&runner.prompts).lock_owned().await;
        let begun = self
            .hold
            .sched
            .upgrade()
            .map_or(Duration::ZERO, |s| s.clock.now());
        let batches = u32::try_from(tokens.div_ceil(BATCH))
            .unwrap_or(u32::MAX)
            .max(1);
        let batch = (span / batches).max(Duration::from_nanos(1));
        *runner.window.lock() = Some(Window {
            begun,
            end: begun + span,
            batch,
        });
        PromptTurn {
            runner,
            begun,
            _turn: turn,
        }
    }

    /// When a token due at `due` really comes.
    pub(crate) fn delayed(&self, due: Duration) -> Duration {
        match *self.hold.runner.window.lock() {
            Some(w) if due > w.begun && due < w.end => {
                let passed = due
                    .saturating_sub(w.begun)
                    .as_nanos()
                    .div_ceil(w.batch.as_nanos());
                let passed = u32::try_from(passed).unwrap_or(u32::MAX);
                (w.begun + w.batch * passed).min(w.end)
            }
            _ => due,
        }
    }
}

/// The evaluation of one prompt.
pub(crate) struct PromptTurn {
    runner: Arc<Runner>,
    /// When it began, in node time.
    pub(crate) begun: Duration,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Drop for PromptTurn {
    fn drop(&mut self) {
        *self.runner.window.lock() = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.hold.runner.slots.lock();
        slots[self.index].busy = false;
        if let Some(sched) = self.hold.sched.upgrade() {
            slots[self.index].used_at = sched.clock.now();
        }
    }
}
