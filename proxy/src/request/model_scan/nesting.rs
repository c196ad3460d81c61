//! Which brackets are open, a bit each.

/// Go's `maxNestingDepth`: the 10,001st open bracket is an error.
const MAX_DEPTH: usize = 10_000;

/// A stack of open objects and arrays, at most 1,250 bytes.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    /// Bit `n % 64` of word `n / 64`: whether the bracket at depth `n` is an object's.
    objects: Vec<u64>,
}

impl Nesting {
    /// How many brackets are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Opens one; false when that is too deep.
    pub(super) fn push(&mut self, object: bool) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.objects.len() {
            self.objects.push(0);
        }
        self.objects[word] = self.objects[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
        true
    }

    /// Whether the innermost open bracket is an object's; false when none is open.
    pub(super) fn in_object(&self) -> bool {
        match self.depth.checked_sub(1) {
            Some(top) => self.objects[top / 64] >> (top % 64) & 1 == 1,
            None => false,
        }
    }

    /// Closes the innermost.
    pub(super) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
