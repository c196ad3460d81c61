//! Who may serve a request, and in which tier, before any strategy orders them.
//!
//! Candidates are the holders (by inventory and by the node's patterns) that are in service and
//! whose breakers would let a request pass. Of these come first those where the model is resident
//! and a slot is free, then those with a free slot, then all others: a cold load costs more than
//! any queue, and a busy node more than a free one.

use std::time::Instant;

use aivonx_shared::fleet_doc::Strategy;

use super::{least_active, lowest_latency};
use crate::dice::Dice;
use crate::fleet::ModelEntry;
use crate::fleet::snapshot::Holder;

/// A candidate's place: the smallest is the best.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Rank {
    tier: u8,
    score: f64,
    tie: f64,
}

/// Ranks the candidates of one model at one moment.
pub(super) struct Ranking<'a> {
    entry: &'a ModelEntry,
    strategy: Strategy,
    now: Instant,
    dice: &'a Dice,
    /// What `lowest_latency` expects of a node that nothing is known of.
    typical: f64,
}

impl<'a> Ranking<'a> {
    pub(super) fn new(
        entry: &'a ModelEntry,
        strategy: Strategy,
        now: Instant,
        dice: &'a Dice,
    ) -> Self {
        let typical = match strategy {
            Strategy::LeastActive => 0.0,
            Strategy::LowestLatency => lowest_latency::typical(&entry.holders, now),
        };
        Self {
            entry,
            strategy,
            now,
            dice,
            typical,
        }
    }

    /// The best candidate's index among the holders.
    pub(super) fn best(&self) -> Option<usize> {
        let mut best: Option<(Rank, usize)> = None;
        for (index, holder) in self.entry.holders.iter().enumerate() {
            let Some((tier, score)) = self.place(holder) else {
                continue;
            };
            // the tie is rolled only where it may decide
            if let Some((rank, _)) = best
                && (tier, score) > (rank.tier, rank.score)
            {
                continue;
            }
            let rank = Rank {
                tier,
                score,
                tie: self.tie(holder),
            };
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| index)
    }

    /// All candidates' indexes, best first.
    pub(super) fn all(&self) -> Vec<usize> {
        let mut ranked: Vec<_> = self
            .entry
            .holders
            .iter()
            .enumerate()
            .filter_map(|(index, holder)| {
                let (tier, score) = self.place(holder)?;
                Some((
                    Rank {
                        tier,
                        score,
                        tie: self.tie(holder),
                    },
                    index,
                ))
            })
            .collect();
        ranked.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        ranked.into_iter().map(|(_, index)| index).collect()
    }

    fn place(&self, holder: &Holder) -> Option<(u8, f64)> {
        let tier = tier(holder, self.now)?;
        let score = match self.strategy {
            Strategy::LeastActive => least_active::score(holder),
            Strategy::LowestLatency => lowest_latency::score(holder, self.typical, self.now),
        };
        Some((tier, score))
    }

    /// Random, smaller the heavier the node: an exponential race, which each candidate wins in
    /// proportion to its weight.
    fn tie(&self, holder: &Holder) -> f64 {
        -(1.0 - self.dice.roll()).ln() / f64::from(holder.node.doc().weight)
    }
}

/// `None` where the holder is no candidate.
fn tier(holder: &Holder, now: Instant) -> Option<u8> {
    let state = holder.node.state();
    if !holder.node.in_service() || !state.breaker.would_pass(now) {
        return None;
    }
    let Some(model) = &holder.model else {
        return Some(1);
    };
    if !model.breaker.would_pass(now) {
        return None;
    }
    if model.in_flight() >= holder.node.doc().slots {
        return Some(2);
    }
    Some(u8::from(!model.is_resident()))
}
