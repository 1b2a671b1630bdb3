//! Segments as the kernels of attention read them: tables of numbers, uploaded once a pass whatever the shape of the heads.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::Result;
use crate::ops::segment::Segment;

/// Numbers of a segment: the fields of the struct `Segment` in kernels/attention.cuh.
const SEGMENT: usize = 8;

/// Numbers of an entry: the fields of the struct `Entry` in kernels/attention.cuh.
const ENTRY: usize = 2;

/// What the kernels read of the segments of a pass.
#[derive(Debug, Clone)]
pub struct SegmentTables {
    /// Eight numbers for each segment with queries, u32.
    pub segments: Tensor,
    /// Four numbers for each interval, u32. An interval is rows of k of which each segment sees all or none; together the
    /// intervals are all rows.
    pub intervals: Tensor,
    /// Two numbers for each entry, u32: a segment that sees the interval, and the position in its sequence at which the
    /// interval begins.
    pub entries: Tensor,
    /// The row of k and v that belongs to each query, u32.
    pub own: Tensor,
    /// Number of queries of each segment in the table.
    pub queries: Vec<usize>,
    /// Number of rows of each interval; there is none where k is a cache.
    pub rows: Vec<usize>,
}

impl SegmentTables {
    /// Tables of `segments` over `key_rows` rows of k and v.
    pub fn new(segments: &[Segment], key_rows: usize, device: &Device) -> Result<Self> {
        let segments: Vec<&Segment> = segments.iter().filter(|segment| !segment.queries.is_empty()).collect();
        let mut numbers: Vec<u32> = segments.iter().flat_map(|segment| row_of(segment)).collect();
        let intervals = intervals(&segments, key_rows);
        let mut entries = Vec::new();
        for interval in &intervals {
            let first = entries.len() / ENTRY;
            for (index, segment) in segments.iter().enumerate() {
                if let Some(position) = position_of(segment, interval.start) {
                    entries.extend([index as u32, position as u32]);
                }
            }
            let count = entries.len() / ENTRY - first;
            numbers.extend([interval.start, interval.len(), first, count].map(|number| number as u32));
        }
        let (after_segments, after_intervals) = (segments.len() * SEGMENT, numbers.len());
        numbers.append(&mut entries);
        let after_entries = numbers.len();
        numbers.extend(own_rows(&segments));
        numbers.push(0); // a device cannot allocate no memory
        let (all, end) = (Tensor::new(numbers.as_slice(), device)?, numbers.len() - 1);
        Ok(Self {
            segments: all.narrow(0, 0, after_segments)?,
            intervals: all.narrow(0, after_segments, after_intervals - after_segments)?,
            entries: all.narrow(0, after_intervals, after_entries - after_intervals)?,
            own: all.narrow(0, after_entries, end - after_entries)?,
            queries: segments.iter().map(|segment| segment.queries.len()).collect(),
            rows: intervals.into_iter().map(|interval| interval.len()).collect(),
        })
    }
}

fn row_of(segment: &Segment) -> [u32; SEGMENT] {
    let [a, b] = &segment.context;
    let first_end = segment.visible(0, None).end;
    [segment.queries.start, segment.queries.len(), first_end, a.start, b.start, a.len(), b.len(), segment.own.start]
        .map(|number| number as u32)
}

/// The row of k and v of each query, in the order of the queries: the last rows of `own`.
fn own_rows(segments: &[&Segment]) -> Vec<u32> {
    let mut rows = vec![0; segments.iter().map(|segment| segment.queries.end).max().unwrap_or(0)];
    for segment in segments {
        let first = segment.own.end - segment.queries.len();
        rows[segment.queries.clone()].iter_mut().zip(first..).for_each(|(row, own)| *row = own as u32);
    }
    rows
}

/// All `key_rows` rows, cut wherever a segment begins or ends to see them. There are none where a segment sees rows beyond
/// these.
fn intervals(segments: &[&Segment], key_rows: usize) -> Vec<Range<usize>> {
    let runs = || segments.iter().flat_map(|segment| segment.key_runs()).filter(|run| !run.is_empty());
    if runs().any(|run| run.end > key_rows) {
        return Vec::new();
    }
    let mut cuts: Vec<usize> = runs().flat_map(|run| [run.start, run.end]).chain([0, key_rows]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|cut| cut[0]..cut[1]).collect()
}

/// The position of a row in the sequence that a segment sees.
fn position_of(segment: &Segment, row: usize) -> Option<usize> {
    let mut before = 0;
    for run in segment.key_runs() {
        if run.contains(&row) {
            return Some(before + row - run.start);
        }
        before += run.len();
    }
    None
}

#[cfg(test)]
#[path = "segment_tables_tests.rs"]
mod tests;
