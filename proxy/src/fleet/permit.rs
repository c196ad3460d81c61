//! Permits: how a node's capacity is counted. A permit is proof of one request in flight on a
//! node; dropping it is the only release, and its verdict on the breakers is told through it.

use std::sync::Arc;
use std::time::Instant;

use super::Node;
use super::breaker::Verdict;
use super::model_state::ModelState;
use super::waiting::{Interrupt, Ticket};

/// One request in flight on a node.
pub(crate) struct Permit {
    node: Arc<Node>,
    model: Option<Arc<ModelState>>,
    /// When the request was sent.
    sent: Instant,
    /// Whether it still waits for its first byte.
    waits: bool,
    node_trial: bool,
    model_trial: bool,
    ticket: Option<Ticket>,
}

impl Permit {
    /// Counts a request in, unless a breaker stands against it. Choosing and counting are one
    /// step where the caller holds the model's pick lock.
    pub(crate) fn reserve(
        node: &Arc<Node>,
        model: Option<&Arc<ModelState>>,
        now: Instant,
    ) -> Option<Self> {
        let node_verdict = node.state().breaker.enter(now);
        if node_verdict == Verdict::Blocked {
            return None;
        }
        let model_verdict = model.map_or(Verdict::Pass, |model| model.breaker.enter(now));
        if model_verdict == Verdict::Blocked {
            if node_verdict == Verdict::Trial {
                node.state().breaker.give_back();
            }
            return None;
        }
        node.state().take();
        if let Some(model) = model {
            model.take();
            model.wait_begins(now);
        }
        Some(Self {
            node: Arc::clone(node),
            model: model.cloned(),
            sent: now,
            waits: true,
            node_trial: node_verdict == Verdict::Trial,
            model_trial: model_verdict == Verdict::Trial,
            ticket: None,
        })
    }

    /// The node it counts on.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Lets the node's death and the timeouts of its phases end the request.
    pub(crate) fn interrupt_with(&mut self, request: Arc<dyn Interrupt>) {
        self.ticket = Some(self.node.state().waiting.enter(request));
    }

    /// The head of an answer arrived: the wait is over.
    pub(crate) fn head_arrived(&mut self, now: Instant) {
        if std::mem::replace(&mut self.waits, false)
            && let Some(model) = &self.model
        {
            model.wait_ends(Some(now - self.sent), now);
        }
    }

    /// The answer is good: closes the breakers and feeds the latencies. `counts` is false for
    /// answers whose time says nothing of the runner, such as an error of the request.
    pub(crate) fn succeeded(&mut self, counts: bool, now: Instant) {
        let took = now - self.sent;
        (self.node_trial, self.model_trial) = (false, false);
        self.node.state().breaker.success();
        if counts {
            self.node.state().latency.observe(took, now);
        }
        if let Some(model) = &self.model {
            model.breaker.success();
            if counts {
                model.latency.observe(took, now);
                model.set_resident(true);
            }
        }
    }

    /// The node could not be reached or broke the connection.
    pub(crate) fn node_failed(&mut self, now: Instant) -> bool {
        self.node_trial = false;
        self.node.state().breaker.failure(now)
    }

    /// The runner failed, or the node said it is busy; without a model the node itself did.
    pub(crate) fn runner_failed(&mut self, now: Instant) -> bool {
        match &self.model {
            Some(model) => {
                self.model_trial = false;
                model.breaker.failure(now)
            }
            None => self.node_failed(now),
        }
    }

    /// What the verdict of a 500 is told to once it is known, after the permit has gone.
    pub(crate) fn suspect(&self) -> Suspect {
        Suspect {
            node: Arc::clone(&self.node),
            model: self.model.clone(),
        }
    }

    /// Notes a byte of the running answer.
    pub(crate) fn saw_byte(&self, now: Instant) {
        if let Some(model) = &self.model {
            model.saw_byte(now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.node.state().release();
        if self.node_trial {
            self.node.state().breaker.give_back();
        }
        if let Some(model) = &self.model {
            model.release();
            if self.waits {
                model.wait_ends(None, Instant::now());
            }
            if self.model_trial {
                model.breaker.give_back();
            }
        }
    }
}

/// A node (and model) that answered 500 while it is not yet known whose fault it was.
pub(crate) struct Suspect {
    node: Arc<Node>,
    model: Option<Arc<ModelState>>,
}

impl Suspect {
    /// It was the node's: another one answered the same request well.
    pub(crate) fn convict(self, now: Instant) -> bool {
        match &self.model {
            Some(model) => model.breaker.failure(now),
            None => self.node.state().breaker.failure(now),
        }
    }
}
