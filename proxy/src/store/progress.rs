//! Many nodes' progress as one: bytes of a layer are summed over the nodes that take part, a phase
//! is told once all of them have reached it. Pure: lines of nodes go in, lines for the client come
//! out, at whatever pace they are asked for.
//!
//! - `total` counts a layer once for each node, from the first line on, also for nodes whose turn
//!   has not come: a client draws its bar from the first line it sees.
//! - `completed` never falls and never passes `total`, whatever the nodes say. A node that fails
//!   takes what it did not fetch out of `total`, and leaves in what it did.
//! - As with Ollama, a layer need not be told complete before the next begins; it counts as
//!   complete once its node verifies.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Value, json};

/// Layers that are counted. A model stored a tensor a layer has thousands; of more, bytes are not
/// shown.
const MOST_LAYERS: usize = 16_384;
/// Other statuses that are told, each once: a create names each of its layers in one.
const MOST_STATUSES: usize = 16_384;
/// Longest status or digest that is passed on, bytes.
const LONGEST: usize = 512;

/// Phases that every node comes through, in their order.
const PHASES: [&str; 3] = [
    "verifying sha256 digest",
    "writing manifest",
    "removing unused layers",
];

/// What a node's line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) status: String,
    pub(crate) digest: String,
    pub(crate) total: u64,
    pub(crate) completed: u64,
}

/// The progress of all nodes that take part.
pub(crate) struct Progress {
    parts: Vec<Part>,
    layers: Vec<Layer>,
    by_digest: HashMap<Box<str>, usize>,
    told: HashSet<Box<str>>,
    /// What is to be told, in its order. A layer stands in it once.
    queue: VecDeque<Item>,
    /// Phases told so far.
    phases: usize,
}

enum Item {
    Status(Value),
    Layer(usize),
}

#[derive(Default)]
struct Part {
    state: State,
    /// How many of the phases it has reached.
    phase: usize,
    /// Total and completed of each layer, by the layer's number; 0 of 0 where it named none.
    layers: Vec<(u64, u64)>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Runs,
    Done,
    Failed,
}

struct Layer {
    digest: Box<str>,
    status: Box<str>,
    /// Its length, as the nodes say.
    total: u64,
    /// What was told last.
    shown: (u64, u64),
    is_queued: bool,
}

impl Progress {
    /// Of so many nodes.
    pub(crate) fn new(parts: usize) -> Self {
        Self {
            parts: (0..parts).map(|_| Part::default()).collect(),
            layers: Vec::new(),
            by_digest: HashMap::new(),
            told: HashSet::new(),
            queue: VecDeque::new(),
            phases: 0,
        }
    }

    /// A line of node number `part`.
    pub(crate) fn heard(&mut self, part: usize, line: &Line) {
        if line.status.len() > LONGEST || line.digest.len() > LONGEST {
            return;
        }
        if !line.digest.is_empty() {
            self.layer_moved(part, line);
        } else if let Some(phase) = PHASES.iter().position(|phase| *phase == line.status) {
            self.parts[part].phase = self.parts[part].phase.max(phase + 1);
            self.touch_layers();
            self.tell_phases();
        } else if line.status != "success" {
            self.tell_once(&line.status);
        }
    }

    /// Node number `part` is through, well or not.
    pub(crate) fn ended(&mut self, part: usize, well: bool) {
        self.parts[part].state = if well { State::Done } else { State::Failed };
        self.touch_layers();
        self.tell_phases();
    }

    /// A line of the proxy's own.
    pub(crate) fn tell(&mut self, line: Value) {
        self.queue.push_back(Item::Status(line));
    }

    /// The lines that are to be told now, each with its newline.
    pub(crate) fn lines(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(item) = self.queue.pop_front() {
            let line = match item {
                Item::Status(line) => Some(line),
                Item::Layer(index) => self.layer_line(index),
            };
            if let Some(line) = line {
                out.extend_from_slice(line.to_string().as_bytes());
                out.push(b'\n');
            }
        }
        out
    }

    fn layer_moved(&mut self, part: usize, line: &Line) {
        let index = match self.by_digest.get(line.digest.as_str()) {
            Some(index) => *index,
            None if self.layers.len() >= MOST_LAYERS => return,
            None => self.new_layer(line),
        };
        let layers = &mut self.parts[part].layers;
        if layers.len() <= index {
            layers.resize(index + 1, (0, 0));
        }
        let (total, completed) = &mut layers[index];
        *total = line.total.max(*total);
        *completed = line.completed.max(*completed).min(*total);
        self.layers[index].total = self.layers[index].total.max(line.total);
        self.enqueue(index);
    }

    fn new_layer(&mut self, line: &Line) -> usize {
        let index = self.layers.len();
        self.layers.push(Layer {
            digest: line.digest.as_str().into(),
            status: line.status.as_str().into(),
            total: 0,
            shown: (0, 0),
            is_queued: false,
        });
        self.by_digest.insert(line.digest.as_str().into(), index);
        index
    }

    fn enqueue(&mut self, index: usize) {
        let layer = &mut self.layers[index];
        if !std::mem::replace(&mut layer.is_queued, true) {
            self.queue.push_back(Item::Layer(index));
        }
    }

    /// Tells those layers again whose sums have changed.
    fn touch_layers(&mut self) {
        for index in 0..self.layers.len() {
            if self.sums(index) != self.layers[index].shown {
                self.enqueue(index);
            }
        }
    }

    /// Bytes wanted and bytes there, over all parts.
    fn sums(&self, index: usize) -> (u64, u64) {
        let known = self.layers[index].total;
        let (mut total, mut completed) = (0u64, 0u64);
        for part in &self.parts {
            let (own, there) = part.layers.get(index).copied().unwrap_or((0, 0));
            let whole = if own == 0 { known } else { own };
            let (wanted, there) = match part.state {
                State::Failed => (there, there),
                State::Runs if part.phase == 0 => (whole, there),
                State::Runs | State::Done => (whole, whole),
            };
            total = total.saturating_add(wanted);
            completed = completed.saturating_add(there);
        }
        (total, completed)
    }

    fn layer_line(&mut self, index: usize) -> Option<Value> {
        let (total, completed) = self.sums(index);
        let layer = &mut self.layers[index];
        layer.is_queued = false;
        let completed = completed.max(layer.shown.1);
        let now = (total.max(completed), completed);
        if now == layer.shown && now.0 > 0 {
            return None;
        }
        layer.shown = now;
        let mut line = json!({ "status": layer.status, "digest": layer.digest, "total": now.0 });
        if completed > 0 {
            line["completed"] = completed.into(); // left out at zero, as by Ollama
        }
        Some(line)
    }

    /// Tells the phases that all have reached, as far as one of those that are left said so.
    fn tell_phases(&mut self) {
        let left = || self.parts.iter().filter(|part| part.state != State::Failed);
        let said = left().map(|part| part.phase).max().unwrap_or(0);
        let all = left()
            .filter(|part| part.state == State::Runs)
            .map(|part| part.phase)
            .min();
        let reached = all.unwrap_or(PHASES.len()).min(said);
        for phase in PHASES.iter().take(reached).skip(self.phases) {
            self.queue
                .push_back(Item::Status(json!({ "status": phase })));
        }
        self.phases = self.phases.max(reached);
    }

    fn tell_once(&mut self, status: &str) {
        if self.told.len() < MOST_STATUSES && self.told.insert(status.into()) {
            self.tell(json!({ "status": status }));
        }
    }
}

#[cfg(test)]
mod tests;
