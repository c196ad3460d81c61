//! What was used, on its way from a data plane to the store: batches with an id of their own, so that
//! one which arrives twice is stored once.

use serde::{Deserialize, Serialize};

/// Seconds of the unit in which usage is kept.
pub const HOUR: u64 = 3600;

/// What one data plane counted between two batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBatch {
    /// Unique over all data planes and starts: who stores batches remembers it.
    pub id: String,
    /// The data plane that counted, as in its reports.
    pub instance: String,
    /// What it counted; no two entries of one hour, key, model and node.
    pub entries: Vec<UsageEntry>,
}

/// What was used in one hour by one key of one model on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// When the hour began, seconds since 1970 (UTC): a multiple of `HOUR`.
    pub hour: u64,
    /// The id of the caller's key or network; `anonymous` for others.
    pub key: String,
    /// The model, as `llama3:latest`.
    pub model: String,
    /// The node's name.
    pub node: String,
    /// Requests answered.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../tests/golden/usage_batch.json");

    #[test]
    fn a_batch_is_written_and_read_as_its_fixture_says() {
        let batch = UsageBatch {
            id: "gw-1-1f-7".into(),
            instance: "gw-1-1f".into(),
            entries: vec![UsageEntry {
                hour: 496_441 * HOUR,
                key: "team-a".into(),
                model: "llama3:latest".into(),
                node: "gpu-1".into(),
                requests: 2,
                prompt_tokens: 30,
                output_tokens: 40,
            }],
        };
        assert_eq!(serde_json::to_string(&batch).unwrap(), GOLDEN.trim());
        assert_eq!(serde_json::from_str::<UsageBatch>(GOLDEN).unwrap(), batch);
    }
}
