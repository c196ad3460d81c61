//! A table that forgets: each entry until an instant, and never more than so many of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// Entries by key. What a stranger can make grow stays bounded: for a new entry in a full table, those
/// go that are over, or else the one that would be over first.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    entries: HashMap<K, Entry<V>>,
    most: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    until: Instant,
}

impl<K: Eq + Hash + Copy, V> Bounded<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            most: most.max(1),
        }
    }

    /// What is remembered of a key now.
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<&V> {
        let entry = self.entries.get(key)?;
        (entry.until > now).then_some(&entry.value)
    }

    /// Remembers a value until then.
    pub(super) fn put(&mut self, key: K, value: V, until: Instant, now: Instant) {
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        self.entries.insert(key, Entry { value, until });
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Looks at every entry: nothing beside the password hash that each attempt costs.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.until > now);
        if self.entries.len() < self.most {
            return;
        }
        let entries = self.entries.iter();
        let first = entries
            .min_by_key(|(_, entry)| entry.until)
            .map(|(key, _)| *key);
        if let Some(key) = first {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_table_forgets_what_is_over_and_then_what_is_over_first() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut table = Bounded::new(2);
        table.put('a', 1, at(10), now);
        table.put('b', 2, at(5), now);
        table.put('c', 3, at(20), now);
        assert_eq!(table.get(&'b', now), None, "it would have been over first");
        assert_eq!(
            (table.get(&'a', now), table.get(&'c', now)),
            (Some(&1), Some(&3))
        );
        table.put('c', 4, at(20), now);
        assert_eq!(table.get(&'a', now), Some(&1), "a change needs no room");
        assert_eq!(table.get(&'a', at(10)), None, "its time is over");
        table.put('d', 5, at(30), at(10));
        assert_eq!(table.get(&'c', at(10)), Some(&4));
        table.remove(&'c');
        assert_eq!(table.get(&'c', now), None);
        assert_eq!(table.entries.len(), 1);
    }
}
