//! The batch that was not sent yet: what is counted is added to it, so that a long outage makes one
//! batch for each hour's series and not one for each interval.

use std::collections::BTreeMap;

use aivonx_shared::usage_batch::{UsageBatch, UsageEntry};

/// Entries of one batch, at most: the control plane stores it in one transaction.
pub(super) const MOST_ENTRIES: usize = 1000;

/// A batch that may still grow.
#[derive(Default)]
pub(super) struct Growing {
    /// Requests, tokens of prompts and of answers, by hour, key, model and node.
    sums: BTreeMap<(u64, String, String, String), [u64; 3]>,
}

impl Growing {
    pub(super) fn is_full(&self) -> bool {
        self.sums.len() >= MOST_ENTRIES
    }

    /// Adds what was counted.
    pub(super) fn add(&mut self, entry: UsageEntry) {
        let series = (entry.hour, entry.key, entry.model, entry.node);
        let sums = self.sums.entry(series).or_default();
        let more = [entry.requests, entry.prompt_tokens, entry.output_tokens];
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum = sum.saturating_add(more);
        }
    }

    /// As it is now.
    pub(super) fn batch(&self, id: String, instance: String) -> UsageBatch {
        let entry = |(series, sums): (&(u64, String, String, String), &[u64; 3])| {
            let (hour, key, model, node) = series.clone();
            let [requests, prompt_tokens, output_tokens] = *sums;
            UsageEntry {
                hour,
                key,
                model,
                node,
                requests,
                prompt_tokens,
                output_tokens,
            }
        };
        UsageBatch {
            id,
            instance,
            entries: self.sums.iter().map(entry).collect(),
        }
    }
}

/// Requests in a batch.
pub(super) fn requests(batch: &UsageBatch) -> u64 {
    let each = batch.entries.iter().map(|entry| entry.requests);
    each.fold(0, u64::saturating_add)
}
