//! `usage:` of a fleet document: how tokens of streams are learnt.

use crate::config::Reader;

/// How tokens of streams are learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageDoc {
    /// Whether a node is asked for the counts of a `/v1` stream whose client did not ask; they are
    /// taken out of the answer again.
    pub inject: bool,
}

impl Default for UsageDoc {
    fn default() -> Self {
        Self { inject: true }
    }
}

pub(super) fn read(root: &Reader<'_>) -> UsageDoc {
    let at = root.section("usage");
    let usage = UsageDoc {
        inject: at.or("inject", UsageDoc::default().inject),
    };
    at.finish();
    usage
}

#[cfg(test)]
mod tests {
    use super::super::FleetDoc;

    #[test]
    fn counts_are_asked_for_unless_it_says_no() {
        let inject = |text: &str| FleetDoc::from_yaml(text).unwrap().usage.inject;
        assert!(inject("nodes: []"));
        assert!(!inject("nodes: []\nusage: {inject: false}"));
        assert!(FleetDoc::from_yaml("nodes: []\nusage: {injekt: false}").is_err());
    }
}
