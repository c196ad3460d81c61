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

/// Up to so many holders, a pick looks at each.
const EXACT: usize = 32;
/// Of more, at so many candidates.
const SAMPLE: usize = 12;

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

/// The best candidate so far.
#[derive(Default)]
struct Best(Option<(Rank, usize)>);

impl Best {
    fn index(&self) -> Option<usize> {
        self.0.map(|(_, index)| index)
    }

    fn tier(&self) -> Option<u8> {
        self.0.map(|(rank, _)| rank.tier)
    }

    /// Whether none of the cold ones could be better.
    fn is_idle(&self) -> bool {
        self.0
            .is_some_and(|(rank, _)| rank.tier <= 1 && rank.score == 0.0)
    }
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

    /// The best candidate's index among the holders: of all, or, where there are very many, of
    /// enough of them. The best of a sample is nearly as good as the best of all (the power of
    /// several choices: Mitzenmacher 2001), and a pick stays short however large the fleet is.
    pub(super) fn best(&self) -> Option<usize> {
        let count = self.entry.holders.len();
        if count <= EXACT {
            self.best_of(0..count)
        } else {
            self.best_of_many(count)
        }
    }

    fn best_of(&self, indexes: impl Iterator<Item = usize>) -> Option<usize> {
        let mut best = Best::default();
        for index in indexes {
            self.consider(index, &mut best);
        }
        best.index()
    }

    /// Warm holders first, from their list; then holders from a random place on until enough were
    /// seen, none of which may be all busy as long as one is not.
    fn best_of_many(&self, count: usize) -> Option<usize> {
        let mut best = Best::default();
        self.entry
            .residents
            .sample(self.dice.roll(), SAMPLE, |index| {
                self.consider(index, &mut best);
                let model = self
                    .entry
                    .holders
                    .get(index)
                    .and_then(|holder| holder.model.as_ref());
                model.is_some_and(|model| model.is_resident())
            });
        if best.tier() == Some(0) {
            return best.index();
        }
        let start = (self.dice.roll() * count as f64) as usize;
        let mut seen = 0;
        for step in 0..count {
            seen += usize::from(self.consider((start + step) % count, &mut best));
            if best.is_idle() || (seen >= SAMPLE && best.tier() == Some(1)) {
                break;
            }
        }
        best.index()
    }

    /// Holds one holder against the best so far; false where it is no candidate.
    fn consider(&self, index: usize, best: &mut Best) -> bool {
        let Some(holder) = self.entry.holders.get(index) else {
            return false;
        };
        let Some((tier, score)) = self.place(holder) else {
            return false;
        };
        // the tie is rolled only where it may decide
        let ahead = best
            .0
            .is_some_and(|(rank, _)| (tier, score) > (rank.tier, rank.score));
        if !ahead {
            let rank = Rank {
                tier,
                score,
                tie: self.tie(holder),
            };
            if best.0.is_none_or(|(least, _)| rank < least) {
                best.0 = Some((rank, index));
            }
        }
        true
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
    if model.anywhere() >= holder.node.doc().slots {
        return Some(2);
    }
    Some(u8::from(!model.is_resident()))
}
