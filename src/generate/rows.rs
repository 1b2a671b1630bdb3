//! Which rows of the cache are whose: each text has a run of them, taken from the first gap that is long enough.

use std::ops::Range;

/// The runs that are taken, in order.
#[derive(Debug, Default)]
pub(super) struct Rows {
    taken: Vec<Range<usize>>,
    count: usize,
}

impl Rows {
    /// `count` rows, all free.
    pub fn new(count: usize) -> Self {
        Self { taken: Vec::new(), count }
    }

    /// Takes `len` rows that follow each other, if there are any.
    pub fn take(&mut self, len: usize) -> Option<Range<usize>> {
        let ends = std::iter::once(0).chain(self.taken.iter().map(|run| run.end));
        let starts = self.taken.iter().map(|run| run.start).chain([self.count]);
        let (at, start) =
            ends.zip(starts).enumerate().find_map(|(at, (end, start))| (start - end >= len).then_some((at, end)))?;
        self.taken.insert(at, start..start + len);
        Some(start..start + len)
    }

    /// Gives back the rows of a run behind its first `keep`.
    pub fn shrink(&mut self, run: &Range<usize>, keep: usize) {
        let Some(at) = self.taken.iter().position(|taken| taken.start == run.start) else { return };
        match keep {
            0 => drop(self.taken.remove(at)),
            _ => self.taken[at].end = run.start + keep,
        }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
