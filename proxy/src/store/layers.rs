//! The progress of a pull at one node as two numbers: bytes that are there, and bytes altogether. Pure.

use std::collections::HashMap;

use super::progress::Line;

/// Layers that are counted; of more, bytes are not shown.
const MOST: usize = 16_384;
/// Longest digest that is kept, bytes.
const LONGEST: usize = 512;
/// What a node says once all layers are there: the last of them need not have been told complete.
const ALL_THERE: [&str; 2] = ["verifying sha256 digest", "success"];

/// The layers that a node told of.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Completed and total of each, by its digest.
    each: HashMap<Box<str>, (u64, u64)>,
    completed: u64,
    total: u64,
}

impl Layers {
    /// Takes a line in; what was there stays there, whatever comes.
    pub(super) fn heard(&mut self, line: &Line) {
        if ALL_THERE.contains(&line.status.as_str()) {
            self.completed = self.total;
        }
        let is_new = !self.each.contains_key(line.digest.as_str());
        if line.digest.is_empty()
            || line.digest.len() > LONGEST
            || (is_new && self.each.len() >= MOST)
        {
            return;
        }
        let (there, whole) = self.each.entry(line.digest.as_str().into()).or_default();
        let (was_there, was_whole) = (*there, *whole);
        *whole = line.total.max(was_whole);
        *there = line.completed.min(*whole).max(was_there);
        self.total = self.total.saturating_add(*whole - was_whole);
        self.completed = self.completed.saturating_add(*there - was_there);
    }

    /// Bytes that are there, and altogether.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.completed.min(self.total), self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: &str, digest: &str, completed: u64, total: u64) -> Line {
        Line {
            status: status.to_owned(),
            digest: digest.to_owned(),
            total,
            completed,
        }
    }

    #[test]
    fn bytes_are_summed_over_layers_and_never_fall() {
        let mut layers = Layers::default();
        let mut told = Vec::new();
        for (digest, completed, total) in [
            ("", 0, 0),
            ("a", 0, 100),
            ("a", 40, 100),
            ("a", 30, 100),
            ("b", 5, 10),
            ("b", 50, 10),
            ("a", u64::MAX, 100),
        ] {
            layers.heard(&line("pulling", digest, completed, total));
            told.push(layers.bytes());
        }
        assert_eq!(
            told,
            [
                (0, 0),
                (0, 100),
                (40, 100),
                (40, 100),
                (45, 110),
                (50, 110),
                (110, 110)
            ]
        );
    }

    #[test]
    fn a_node_that_verifies_has_all_of_it() {
        let mut layers = Layers::default();
        layers.heard(&line("pulling a", "a", 40, 100));
        layers.heard(&line("pulling b", "b", 1, 10));
        layers.heard(&line("verifying sha256 digest", "", 0, 0));
        assert_eq!(layers.bytes(), (110, 110));
        layers.heard(&line("pulling a", "a", 100, 100));
        assert_eq!(layers.bytes(), (110, 110), "never more than there are");
    }

    #[test]
    fn memory_is_bounded() {
        let mut layers = Layers::default();
        for number in 0..MOST + 10 {
            layers.heard(&line("pulling", &number.to_string(), 1, 1));
        }
        layers.heard(&line("pulling", &"x".repeat(LONGEST + 1), 1, 1));
        layers.heard(&line("pulling", "0", 1, 3));
        assert_eq!(layers.bytes(), (MOST as u64, MOST as u64 + 2));
    }
}
