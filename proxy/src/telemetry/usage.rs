//! What was used: requests and tokens by hour, key, model and node, counted where a request ends.
//! `sync/usage` takes the counts every few seconds and brings them to the control plane.
//!
//! A request takes a lock that nobody else holds at that moment, finds its series by what the snapshot
//! numbers and adds to it. It allocates only for a series that it is the first of since the last taking.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aivonx_shared::usage_batch::{HOUR, UsageEntry};
use parking_lot::{Mutex, MutexGuard};

use crate::upstream::usage::Tokens;

/// Requests that end at the same moment go to different ones.
const SHARDS: usize = 8;
/// Series of one shard, at most; the rest counts as `OTHER`.
const MOST: usize = 4096;
/// Stands for a model that the fleet does not know, and for key, model and node of what came beyond
/// `MOST`. No key, model or node is called so.
pub(crate) const OTHER: &str = "*";
/// More tokens than this no answer has: a node that says so must not spoil a sum.
const MOST_TOKENS: u64 = u32::MAX as u64;

/// The counts since they were last taken.
pub(crate) struct UsageCounts {
    /// Each guards its own counts, for a few instructions.
    shards: [Mutex<Shard>; SHARDS],
    most: usize,
}

/// One request that a node answered.
pub(crate) struct Used<'a> {
    /// The id of the caller's key or network.
    pub(crate) key: &'a str,
    /// Number and label of the model; no label where the fleet does not know it.
    pub(crate) model: (u32, &'a str),
    /// Serial and name of the node.
    pub(crate) node: (u64, &'a str),
    /// What the node counted.
    pub(crate) tokens: Tokens,
}

#[derive(Default)]
struct Shard {
    /// By the key's id, then by numbers, so that a look-up copies nothing.
    keys: HashMap<Box<str>, HashMap<Slot, Series>>,
    /// How many there are in all of `keys`.
    series: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    hour: u64,
    model: u32,
    node: u64,
}

struct Series {
    model: Box<str>,
    node: Box<str>,
    sums: Sums,
}

#[derive(Default)]
struct Sums {
    requests: u64,
    prompt: u64,
    output: u64,
}

/// When the hour of an instant began, seconds since 1970; 0 for clocks that stand before it.
pub(crate) fn hour_of(time: SystemTime) -> u64 {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs());
    seconds - seconds % HOUR
}

impl Default for UsageCounts {
    fn default() -> Self {
        Self::at_most(MOST)
    }
}

impl UsageCounts {
    /// With so many series in each shard.
    fn at_most(most: usize) -> Self {
        Self {
            shards: Default::default(),
            most,
        }
    }

    /// Counts a request that ended in this hour.
    pub(crate) fn count(&self, hour: u64, used: &Used<'_>) {
        let slot = Slot {
            hour,
            model: used.model.0,
            node: used.node.0,
        };
        let mut shard = self.shard(used.node.0 as usize);
        let shard = &mut *shard;
        let known = shard.keys.get_mut(used.key);
        if let Some(series) = known.and_then(|series| series.get_mut(&slot)) {
            return series.sums.add(used.tokens);
        }
        if shard.series < self.most {
            let model = Some(used.model.1).filter(|label| !label.is_empty());
            let names = (model.unwrap_or(OTHER), used.node.1);
            shard.begin(used.key, slot, names, used.tokens);
        } else {
            let slot = Slot {
                model: u32::MAX,
                node: 0,
                ..slot
            };
            shard.begin(OTHER, slot, (OTHER, OTHER), used.tokens);
        }
    }

    /// Takes what was counted; one series may come several times.
    pub(crate) fn take(&self) -> Vec<UsageEntry> {
        let shards = self.shards.iter();
        let taken = shards.map(|shard| std::mem::take(&mut *shard.lock()));
        taken.flat_map(Shard::into_entries).collect()
    }

    /// The first one from `start` on that nobody holds.
    fn shard(&self, start: usize) -> MutexGuard<'_, Shard> {
        let mut turns = (0..SHARDS).map(|step| &self.shards[(start.wrapping_add(step)) % SHARDS]);
        turns
            .find_map(Mutex::try_lock)
            .unwrap_or_else(|| self.shards[start % SHARDS].lock())
    }
}

impl Shard {
    /// Counts the first request of a series, or one more of those that are counted together.
    fn begin(&mut self, key: &str, slot: Slot, (model, node): (&str, &str), tokens: Tokens) {
        let of_key = self.keys.entry(key.into()).or_default();
        let before = of_key.len();
        let series = of_key.entry(slot).or_insert_with(|| Series {
            model: model.into(),
            node: node.into(),
            sums: Sums::default(),
        });
        series.sums.add(tokens);
        self.series += of_key.len() - before;
    }

    fn into_entries(self) -> impl Iterator<Item = UsageEntry> {
        self.keys.into_iter().flat_map(|(key, series)| {
            series.into_iter().map(move |(slot, series)| UsageEntry {
                hour: slot.hour,
                key: key.to_string(),
                model: series.model.into(),
                node: series.node.into(),
                requests: series.sums.requests,
                prompt_tokens: series.sums.prompt,
                output_tokens: series.sums.output,
            })
        })
    }
}

impl Sums {
    fn add(&mut self, tokens: Tokens) {
        let bounded = |count: Option<u64>| count.unwrap_or(0).min(MOST_TOKENS);
        self.requests += 1;
        self.prompt += bounded(tokens.prompt);
        self.output += bounded(tokens.output);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn used(key: &'static str, model: u32, node: u64) -> Used<'static> {
        Used {
            key,
            model: (model, if model == u32::MAX { "" } else { "tiny:latest" }),
            node: (node, "gpu-1"),
            tokens: Tokens {
                prompt: Some(3),
                output: Some(5),
                ..Tokens::default()
            },
        }
    }

    fn sum(entries: &[UsageEntry]) -> (u64, u64, u64) {
        entries.iter().fold((0, 0, 0), |sum, entry| {
            (
                sum.0 + entry.requests,
                sum.1 + entry.prompt_tokens,
                sum.2 + entry.output_tokens,
            )
        })
    }

    #[test]
    fn hours_begin_on_the_hour() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(hour_of(at(HOUR * 7)), HOUR * 7);
        assert_eq!(hour_of(at(HOUR * 8 - 1)), HOUR * 7);
        assert_eq!(hour_of(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }

    #[test]
    fn a_series_is_an_hour_a_key_a_model_and_a_node() {
        let counts = UsageCounts::default();
        for (hour, key, model, node) in [
            (0, "a", 1, 1),
            (0, "a", 1, 1),
            (HOUR, "a", 1, 1),
            (0, "b", 1, 1),
            (0, "a", 2, 1),
            (0, "a", 1, 2),
            (0, "a", u32::MAX, 1),
        ] {
            counts.count(hour, &used(key, model, node));
        }
        let entries = counts.take();
        assert_eq!((entries.len(), sum(&entries)), (6, (7, 21, 35)));
        let unknown = entries.iter().find(|entry| entry.model == OTHER).unwrap();
        assert_eq!(
            (unknown.key.as_str(), unknown.node.as_str()),
            ("a", "gpu-1")
        );
        assert!(counts.take().is_empty(), "what was taken is gone");
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted_together() {
        let counts = UsageCounts::at_most(2);
        for model in 0..100 {
            counts.count(0, &used("a", model, 1));
        }
        let entries = counts.take();
        assert_eq!((entries.len(), sum(&entries)), (3, (100, 300, 500)));
        let rest = entries.iter().find(|entry| entry.key == OTHER).unwrap();
        assert_eq!((rest.requests, rest.node.as_str()), (98, OTHER));
    }

    #[test]
    fn no_answer_counts_more_tokens_than_there_can_be() {
        let counts = UsageCounts::default();
        let mut request = used("a", 1, 1);
        request.tokens.output = Some(u64::MAX);
        for _ in 0..3 {
            counts.count(0, &request);
        }
        assert_eq!(counts.take()[0].output_tokens, 3 * MOST_TOKENS);
    }

    #[test]
    fn nothing_is_lost_between_threads_and_takings() {
        let counts = UsageCounts::default();
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for number in 0..5000 {
                            counts.count(0, &used("a", number % 3, u64::from(number % 2)));
                        }
                    })
                })
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                taken.extend(counts.take());
            }
        });
        taken.extend(counts.take());
        assert_eq!(sum(&taken), (20_000, 60_000, 100_000));
    }
}
