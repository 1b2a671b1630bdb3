//! How sequences lie in one flat `(T, H)` residual: no padding, and rows that two sequences share stand once.

use std::ops::Range;

use crate::ops::attention::Segment;
use crate::ops::linear::Products;

/// Rows of a pass, which of them see which, and where each is in its sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Position of each row in its sequence. `(T,)`
    pub positions: Vec<usize>,
    /// Tokens of the sequence that each row belongs to. `(T,)`
    pub lengths: Vec<usize>,
    /// Runs of rows; together they hold every row once.
    pub segments: Vec<Segment>,
    /// How the projections of these rows add.
    pub products: Products,
}

/// A run of new rows of a sequence whose keys and values are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Continuation {
    /// The cache's row of the sequence's first token.
    pub start: usize,
    /// Tokens whose keys and values the cache has.
    pub past: usize,
    /// Number of new rows, those of the tokens behind.
    pub new: usize,
    /// Tokens of the whole sequence as far as it is known, on which some rotary embeddings depend.
    pub length: usize,
}

/// Two sequences with a common beginning, in tokens. The last token of each is no row, since nothing is predicted from it,
/// but counts in its sequence's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branches {
    /// Tokens that both begin with; may be 0.
    pub shared: usize,
    /// Further tokens of the first.
    pub first: usize,
    /// Further tokens of the second.
    pub second: usize,
}

impl Branches {
    /// Number of rows that the branches take.
    pub fn rows(&self) -> usize {
        self.shared + self.first + self.second
    }

    /// Tokens of the longer sequence.
    fn longest(&self) -> usize {
        self.shared + self.first.max(self.second) + 1
    }
}

impl Layout {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// Adds one sequence of `len` tokens.
    pub fn push_sequence(&mut self, len: usize) {
        self.push_run(len, [0..0, 0..0], len);
    }

    /// Adds two sequences that share their beginning: `[shared | first | second]`.
    pub fn push_branches(&mut self, branches: &Branches) {
        self.push_all_branches(0, std::slice::from_ref(branches));
    }

    /// Adds pairs of branches that all begin with the same `prefix` tokens: `[prefix | shared | first | second | shared | …]`, where
    /// the shared rows of each pair follow the prefix. Returns the first row of each pair behind the prefix.
    pub(crate) fn push_all_branches(&mut self, prefix: usize, pairs: &[Branches]) -> Vec<usize> {
        let longest = pairs.iter().map(Branches::longest).max().unwrap_or(0);
        let common = self.push_run(prefix, [0..0, 0..0], longest);
        let mut push = |branches: &Branches| {
            let length = |branch| branches.shared + branch + 1;
            let shared = self.push_run(branches.shared - prefix, [common.clone(), 0..0], branches.longest());
            let context = [common.clone(), shared.clone()];
            self.push_run(branches.first, context.clone(), length(branches.first));
            self.push_run(branches.second, context, length(branches.second));
            shared.start
        };
        pairs.iter().map(&mut push).collect()
    }

    /// The rows that continue cached sequences, one run after the other. Key rows are counted in the cache.
    pub(crate) fn continuing(runs: &[Continuation]) -> Self {
        let mut layout = Self::default();
        for Continuation { start, past, new, length } in runs.iter().copied() {
            let first = layout.rows();
            layout.positions.extend(past..past + new);
            layout.lengths.extend(std::iter::repeat_n(length, new));
            layout.segments.push(Segment {
                queries: first..first + new,
                context: [0..0, start..start + past],
                own: start + past..start + past + new,
            });
        }
        layout
    }

    /// Adds `len` rows that go on behind `context`. Returns them.
    fn push_run(&mut self, len: usize, context: [Range<usize>; 2], length: usize) -> Range<usize> {
        let rows = self.rows()..self.rows() + len;
        let past: usize = context.iter().map(Range::len).sum();
        self.positions.extend(past..past + len);
        self.lengths.extend(std::iter::repeat_n(length, len));
        if len > 0 {
            self.segments.push(Segment { queries: rows.clone(), context, own: rows.clone() });
        }
        rows
    }

    /// Runs of the layout with queries at `rows` alone (ascending): what a last block needs whose other rows nobody reads. A
    /// run's queries then reach from the first of its rows to its end. Also returns those query rows.
    pub(crate) fn select(&self, rows: &[usize]) -> (Vec<Segment>, Vec<usize>) {
        let mut query_rows = Vec::with_capacity(rows.len());
        let segments = self.segments.iter().map(|segment| {
            let first = rows.iter().copied().find(|row| segment.queries.contains(row)).unwrap_or(segment.queries.end);
            let last = rows.iter().rev().copied().find(|row| segment.queries.contains(row)).map_or(first, |row| row + 1);
            let queries = query_rows.len()..query_rows.len() + (last - first);
            query_rows.extend(first..last);
            // Rows of the run behind the last query are seen by nobody: leave them out of `own`.
            let own = segment.own.start..segment.own.end - (segment.queries.end - last);
            Segment { queries, context: segment.context.clone(), own }
        });
        (segments.collect(), query_rows)
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
