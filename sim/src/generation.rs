//! One run of a model on one slot: tokens at the model's speed, and the counts of the end.

use std::time::Duration;

use serde_json::Value;

use crate::clock::Clock;
use crate::sched::Slot;
use crate::words::{token_at, word};

/// The text of an answer whose runner died.
pub(crate) const DIED: &str = "an error was encountered while running the model: unexpected EOF";

/// What is going to be generated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Tokens in all, thinking included.
    pub(crate) tokens: usize,
    /// Whether the limit ends it, not the model.
    pub(crate) is_cut: bool,
    /// How many of the tokens are thinking; they come first.
    pub(crate) thinking: usize,
    /// A text that is not noise.
    pub(crate) script: Option<String>,
    /// Calls at the end, native shape.
    pub(crate) tool_calls: Option<Value>,
    /// Alternatives for each token, when log probabilities were asked for.
    pub(crate) logprobs: Option<usize>,
    /// The first token is this long.
    pub(crate) huge: Option<usize>,
    pub(crate) seed: u64,
}

/// The counts of the end; durations are node time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) total: Duration,
    pub(crate) load: Duration,
    pub(crate) prompt_tokens: usize,
    pub(crate) prompt: Duration,
    pub(crate) tokens: usize,
    pub(crate) eval: Duration,
    /// `stop` or `length`.
    pub(crate) reason: &'static str,
}

/// What came next. The text of a token is in [`Generation::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Text,
    Thinking,
    /// All calls of tools at once.
    ToolCalls,
    Done,
    /// The runner was killed.
    Died,
}

/// When what happened, for the counts.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    pub(crate) begun: Duration,
    pub(crate) loaded: Duration,
    pub(crate) prompt_tokens: usize,
    pub(crate) prompt: Duration,
}

/// A run on its slot. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Generation {
    slot: Slot,
    clock: Clock,
    rng: fastrand::Rng,
    plan: Plan,
    timing: Timing,
    /// Node time between tokens.
    interval: Duration,
    /// When the prompt was done.
    first_at: Duration,
    /// How long prompts of other slots have held this one up.
    stalled: Duration,
    produced: usize,
    script_at: usize,
    /// The latest token.
    pub(crate) text: String,
}

impl Generation {
    pub(crate) fn new(
        slot: Slot,
        clock: Clock,
        plan: Plan,
        timing: Timing,
        tokens_per_second: f64,
    ) -> Self {
        let interval = if tokens_per_second > 0.0 {
            1.0 / tokens_per_second
        } else {
            0.0
        };
        Self {
            slot,
            rng: fastrand::Rng::with_seed(plan.seed),
            plan,
            timing,
            interval: Duration::try_from_secs_f64(interval).unwrap_or_default(),
            first_at: clock.now(),
            stalled: Duration::ZERO,
            produced: 0,
            script_at: 0,
            text: String::new(),
            clock,
        }
    }

    /// The next token, when it is due.
    pub(crate) async fn step(&mut self) -> Step {
        if self.slot.hold.is_dead() {
            return Step::Died;
        }
        if self.produced >= self.plan.tokens {
            return if self.plan.tool_calls.is_some() {
                Step::ToolCalls
            } else {
                Step::Done
            };
        }
        let steps = u32::try_from(self.produced + 1).unwrap_or(u32::MAX);
        let mut due = self
            .first_at
            .saturating_add(self.interval.saturating_mul(steps))
            + self.stalled;
        if self.interval.is_zero() {
            self.clock.sleep_until(due).await;
        } else {
            let delayed = self.slot.delayed(due);
            self.stalled += delayed.saturating_sub(due);
            due = delayed;
            tokio::select! {
                () = self.clock.sleep_until(due) => {}
                () = self.slot.hold.died() => return Step::Died,
            }
        }
        self.produced += 1;
        self.next_text()
    }

    fn next_text(&mut self) -> Step {
        self.text.clear();
        if let Some(bytes) = self.plan.huge.take() {
            self.text.extend(std::iter::repeat_n('a', bytes));
            return Step::Text;
        }
        if self.produced <= self.plan.thinking {
            self.text.push_str(word(&mut self.rng));
            return Step::Thinking;
        }
        match &self.plan.script {
            Some(script) => {
                let token = token_at(script, self.script_at.min(script.len()));
                self.script_at += token.len();
                self.text.push_str(token);
            }
            None => self.text.push_str(word(&mut self.rng)),
        }
        Step::Text
    }

    /// The calls announced by [`Step::ToolCalls`]; after them it is done.
    pub(crate) fn take_tool_calls(&mut self) -> Value {
        Value::Array(self.plan.tool_calls.take().into_iter().collect())
    }

    /// The latest token's log probabilities, native shape, if asked for.
    pub(crate) fn logprobs(&mut self) -> Option<Value> {
        let others = self.plan.logprobs?;
        let mut chance = -0.05 - self.rng.f64() * 2.0;
        let entry = |token: &str, chance: f64| serde_json::json!({"token": token, "logprob": chance, "bytes": token.as_bytes()});
        let mut own = entry(&self.text, chance);
        if others > 0 {
            let mut top = vec![own.clone()];
            for _ in 1..others {
                chance -= self.rng.f64() + 0.1;
                top.push(entry(word(&mut self.rng), chance));
            }
            own["top_logprobs"] = Value::Array(top);
        }
        Some(Value::Array(vec![own]))
    }

    /// Token numbers of prompt and answer, as `context` of `/api/generate`.
    pub(crate) fn context(&self) -> Vec<u32> {
        let mut rng = fastrand::Rng::with_seed(self.plan.seed);
        (0..self.timing.prompt_tokens + self.produced)
            .map(|_| rng.u32(3..4096))
            .collect()
    }

    /// The counts so far.
    pub(crate) fn stats(&self) -> Stats {
        let now = self.clock.now();
        Stats {
            total: now.saturating_sub(self.timing.begun),
            load: self.timing.loaded.saturating_sub(self.timing.begun),
            prompt_tokens: self.timing.prompt_tokens,
            prompt: self.timing.prompt,
            tokens: self.produced,
            eval: now.saturating_sub(self.first_at),
            reason: if self.plan.is_cut { "length" } else { "stop" },
        }
    }
}

/// A whole answer, for clients that do not stream.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) text: String,
    pub(crate) thinking: String,
    pub(crate) tool_calls: Option<Value>,
    pub(crate) logprobs: Vec<Value>,
    pub(crate) stats: Stats,
    pub(crate) context: Vec<u32>,
}

/// Runs to the end; `None` when the runner died.
pub(crate) async fn collect(mut run: Generation) -> Option<Collected> {
    let mut all = Collected::default();
    loop {
        match run.step().await {
            Step::Text => {
                all.text.push_str(&run.text);
                if let Some(Value::Array(list)) = run.logprobs() {
                    all.logprobs.extend(list);
                }
            }
            Step::Thinking => all.thinking.push_str(&run.text),
            Step::ToolCalls => all.tool_calls = Some(run.take_tool_calls()),
            Step::Died => return None,
            Step::Done => {
                all.stats = run.stats();
                all.context = run.context();
                return Some(all);
            }
        }
    }
}
