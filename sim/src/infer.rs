//! From a request's words to a running model, the same for every dialect: find the model, check
//! what it can do and what was asked for, get a runner and a slot, evaluate the prompt.

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::model_name::{ModelName, NameError, Source};
use serde_json::{Map, Value, json};

use crate::answer::ApiError;
use crate::cloud;
use crate::generation::{Generation, Plan, Timing};
use crate::gojson::encode::go_quote;
use crate::node::Node;
use crate::prompt::Prompt;
use crate::sched::{Demand, KeepAlive, RunnerRef};
use crate::store::Installed;
use crate::words::{formatted, token_count, tool_call};

mod options;

pub(crate) use options::{checked_options, load_options};

/// An inference request after its dialect was taken off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// The model as written.
    pub(crate) model: String,
    pub(crate) options: Map<String, Value>,
    /// Seconds; negative for ever.
    pub(crate) keep_alive: Option<f64>,
    pub(crate) prompt: Prompt,
    /// The last thing the user said.
    pub(crate) question: String,
    pub(crate) tools: Value,
    pub(crate) format: Value,
    /// `None` leaves it to the model.
    pub(crate) think: Option<bool>,
    pub(crate) has_media: bool,
    /// Whether a prompt that is too long may be cut.
    pub(crate) truncate: bool,
    pub(crate) logprobs: Option<usize>,
    pub(crate) huge: Option<usize>,
    /// Node time when the request came.
    pub(crate) begun: Duration,
}

impl Ask {
    /// An empty question to a model, from a bound request.
    pub(crate) fn new(node: &Node, model: &str) -> Self {
        Self {
            model: model.to_owned(),
            truncate: true,
            begun: node.clock.now(),
            ..Self::default()
        }
    }
}

/// Finds the model of a chat or generate request.
pub(crate) fn find(node: &Node, text: &str, path: &str) -> Result<Arc<Installed>, ApiError> {
    find_or(node, text, path, || {
        ApiError::new(404, format!("model '{text}' not found"))
    })
}

/// Finds a model; `missing` is said when there is none of that name.
pub(crate) fn find_or(
    node: &Node,
    text: &str,
    path: &str,
    missing: impl FnOnce() -> ApiError,
) -> Result<Arc<Installed>, ApiError> {
    let (name, source) = match ModelName::parse_with_source(text) {
        Ok(found) => found,
        Err(NameError::Empty) => return Err(ApiError::new(404, "model '' not found")),
        Err(e) => return Err(ApiError::bad(e.to_string())),
    };
    if source == Source::Cloud {
        cloud::admit(node, path)?;
        return cloud::passed_through(node, name.display()).ok_or_else(missing);
    }
    let found = node.store.lock().find(&name);
    let is_stub = |model: &Arc<Installed>| model.spec.remote.is_some();
    let found = found.filter(|model| source != Source::Local || !is_stub(model));
    if found.as_ref().is_some_and(is_stub) {
        cloud::admit(node, path)?;
    }
    found.ok_or_else(missing)
}

/// Checks that a model can do what is asked, `verb` being `chat` or `generate`.
pub(crate) fn check_capabilities(
    model: &Installed,
    ask: &Ask,
    verb: &str,
    suffix: bool,
) -> Result<(), ApiError> {
    let quoted = go_quote(&ask.model);
    if ask.think == Some(true) && !model.spec.can("thinking") {
        return Err(ApiError::bad(format!("{quoted} does not support thinking")));
    }
    if !model.spec.can("completion") {
        return Err(ApiError::bad(format!("{quoted} does not support {verb}")));
    }
    let full = model.name.full();
    if ask.tools.as_array().is_some_and(|t| !t.is_empty()) && !model.spec.can("tools") {
        return Err(ApiError::bad(format!("{full} does not support tools")));
    }
    if suffix && !model.spec.can("insert") {
        return Err(ApiError::bad(format!("{full} does not support insert")));
    }
    Ok(())
}

/// Checks the options and waits for a loaded runner.
pub(crate) async fn load(
    node: &Node,
    model: &Arc<Installed>,
    ask: &Ask,
) -> Result<RunnerRef, ApiError> {
    let options = checked_options(&ask.options)?;
    let demand = Demand {
        model: Arc::clone(model),
        load: load_options(node, model, options),
        keep_alive: ask.keep_alive.map(KeepAlive::from_seconds),
    };
    if model.spec.remote.is_some() {
        return Ok(RunnerRef::elsewhere(&demand));
    }
    node.sched.acquire(demand).await
}

/// Waits for a slot and evaluates the prompt.
pub(crate) async fn start(
    node: &Node,
    model: &Installed,
    runner: RunnerRef,
    ask: &Ask,
) -> Result<Generation, ApiError> {
    let loaded = node.clock.now();
    let num_ctx = runner.num_ctx();
    let mut prompt = ask.prompt.clone();
    if prompt.tokens as u64 > num_ctx && ask.truncate {
        prompt.tokens = num_ctx as usize;
    }
    let slot = runner.slot(&prompt).await?;
    refuse_input(model, ask, prompt.tokens, num_ctx)?;
    let fresh = prompt.tokens.saturating_sub(slot.reused);
    let span = fresh as f64 / model.spec.prompt_tokens_per_second;
    let span = Duration::try_from_secs_f64(span).unwrap_or_default();
    if !span.is_zero() {
        let evaluate = async {
            let turn = slot.prompt_turn(span, fresh).await;
            node.clock.sleep_until(turn.begun + span).await;
        };
        tokio::select! {
            () = evaluate => {}
            () = slot.hold.died() => return Err(ApiError::new(500, crate::generation::DIED)),
        }
    }
    let timing = Timing {
        begun: ask.begun,
        loaded,
        prompt_tokens: prompt.tokens,
        prompt: span.max(Duration::from_micros(1)),
    };
    let plan = plan(node, model, ask);
    Ok(Generation::new(
        slot,
        node.clock.clone(),
        plan,
        timing,
        model.spec.tokens_per_second,
    ))
}

/// What llama-server refuses, its body told as text.
fn refuse_input(model: &Installed, ask: &Ask, tokens: usize, num_ctx: u64) -> Result<(), ApiError> {
    let error = if tokens as u64 > num_ctx {
        json!({
            "code": 400,
            "message": format!(
                "request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try increasing it"
            ),
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": num_ctx,
        })
    } else if ask.has_media && !model.spec.can("vision") && !model.spec.can("audio") {
        json!({
            "code": 400,
            "message": "Multimodal data provided, but model does not support multimodal requests.",
            "type": "invalid_request_error",
        })
    } else {
        return Ok(());
    };
    Err(ApiError::bad(json!({ "error": error }).to_string()))
}

/// Decides what will be said: the same for the same model, prompt, seed and node.
fn plan(node: &Node, model: &Installed, ask: &Ask) -> Plan {
    let given = ask
        .options
        .get("seed")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    let seed = ask.prompt.hash ^ node.spec.seed.rotate_left(17) ^ (given as u64).rotate_left(31);
    let mut rng = fastrand::Rng::with_seed(seed);
    let limit = ask.options.get("num_predict").and_then(Value::as_i64);
    let limit = limit
        .and_then(|n| usize::try_from(n).ok())
        .filter(|&n| n > 0);
    let tool_calls = tool_call(&ask.tools, &ask.question, &mut rng);
    let script = if tool_calls.is_some() {
        None
    } else {
        formatted(&ask.format, &mut rng)
    };
    let thinks = ask.think.unwrap_or(true) && model.spec.can("thinking");
    let wanted = match (&script, &tool_calls) {
        (Some(text), _) => Some(token_count(text)),
        (None, Some(_)) => Some(0),
        (None, None) => model.spec.answer_tokens,
    };
    let (answer, is_cut) = match (wanted, limit) {
        (Some(n), Some(limit)) => (n.min(limit), n > limit),
        (Some(n), None) => (n, false),
        (None, Some(limit)) => (limit, true),
        (None, None) => (rng.usize(32..=96), false),
    };
    let thinking = if thinks && (answer > 0 || tool_calls.is_some()) {
        (answer / 3).max(1)
    } else {
        0
    };
    let tokens = if script.is_some() || tool_calls.is_some() {
        answer + thinking
    } else {
        answer
    };
    Plan {
        tokens: tokens.max(thinking),
        is_cut,
        thinking,
        script,
        tool_calls,
        logprobs: ask.logprobs,
        huge: ask.huge,
        seed,
    }
}
