//! Aliases in the lists: each as an entry of the model that would be served now.

use std::time::Instant;

use serde_json::Value;

use super::{View, order};
use crate::fleet::access::Grant;
use crate::fleet::aliases::Alias;
use crate::fleet::inventory::Listed;

/// Takes out of a merged list what the caller may not use.
pub(super) fn show_to(grant: Option<&Grant>, list: &mut Vec<(Listed, Vec<String>)>) {
    if let Some(grant) = grant.filter(|grant| grant.is_restricted()) {
        list.retain(|(listed, _)| grant.allows(&listed.key));
    }
}

/// Puts the aliases into a merged list, called as `named` says, in place of the models that they
/// hide, and takes out what the caller may not use. The key of an alias's entry stays that of its
/// model.
pub(super) fn add(
    view: View<'_>,
    list: &mut Vec<(Listed, Vec<String>)>,
    named: impl Fn(&Alias) -> &str,
) {
    let grant = view.grant;
    let aliases = view.snapshot.aliases();
    let entries: Vec<_> = aliases
        .iter()
        .filter(|alias| grant.is_none_or(|grant| alias.is_open_to(grant)))
        .filter_map(|alias| {
            let (mut listed, nodes) = stands_for(alias, list)?.clone();
            for key in ["name", "model"] {
                if let Some(name) = listed.entry.get_mut(key) {
                    *name = Value::from(named(alias));
                }
            }
            Some((listed, nodes))
        })
        .collect();
    show_to(grant, list);
    if aliases.iter().next().is_some() {
        list.retain(|(listed, _)| aliases.get(&listed.key).is_none());
        list.extend(entries);
        list.sort_by(order);
    }
}

/// The entry of the model that an alias means now: the one that would be served, else the first of
/// its chain that is listed.
pub(super) fn stands_for<'a>(
    alias: &Alias,
    list: &'a [(Listed, Vec<String>)],
) -> Option<&'a (Listed, Vec<String>)> {
    let entry_of = |at: usize| {
        let label = &*alias.chain[at].entry.as_ref()?.label;
        list.iter()
            .find(|(listed, _)| listed.key.display() == label)
    };
    let serving = alias.serving(Instant::now());
    serving
        .and_then(entry_of)
        .or_else(|| (0..alias.chain.len()).find_map(entry_of))
}
