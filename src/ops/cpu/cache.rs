//! Rows that are written to their places in a cache of rows, by all threads: where the memory of a place is new, its first writer
//! waits until the system has cleared it.

use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Tensor, bail};
use rayon::prelude::*;

use super::slices::WORTH_A_THREAD;
use crate::Result;

/// Copies runs of the rows of `x (T, W)` to those of `cache (·, W)` that begin at the number beside each run. No two runs may be
/// written to the same rows.
pub fn write(x: &Tensor, cache: &Tensor, runs: &[(Range<usize>, usize)]) -> Result<()> {
    Ok(cache.inplace_op2(&x.contiguous()?, &RunWrite { runs })?)
}

struct RunWrite<'a> {
    runs: &'a [(Range<usize>, usize)],
}

impl InplaceOp2 for RunWrite<'_> {
    fn name(&self) -> &'static str {
        "write-runs"
    }

    fn cpu_fwd(
        &self,
        cache: &mut CpuStorage,
        cache_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(cache), CpuStorage::F32(x)) = (cache, x) else { bail!("{}: rows of f32 only", self.name()) };
        let (Some((from, to)), Some((x_from, x_to))) = (cache_layout.contiguous_offsets(), x_layout.contiguous_offsets())
        else {
            bail!("{}: the rows have gaps", self.name())
        };
        let ((_, width), (_, x_width)) = (cache_layout.shape().dims2()?, x_layout.shape().dims2()?);
        if width != x_width {
            bail!("{}: rows of {x_width} elements to rows of {width}", self.name());
        }
        let (mut rest, x, width) = (&mut cache[from..to], &x[x_from..x_to], width.max(1));
        let mut runs: Vec<&(Range<usize>, usize)> = self.runs.iter().filter(|(run, _)| !run.is_empty()).collect();
        runs.sort_by_key(|(_, first)| *first);
        let (mut at, mut rows) = (0, Vec::new());
        for (run, first) in runs {
            let gap = first.checked_sub(at).map(|rows| rows * width);
            let place = gap.and_then(|gap| std::mem::take(&mut rest).split_at_mut_checked(gap));
            let place = place.and_then(|(_, behind)| behind.split_at_mut_checked(run.len() * width));
            let (Some((place, behind)), Some(new)) = (place, x.get(run.start * width..run.end * width)) else {
                bail!("{}: rows {run:?} do not fit at {first}", self.name())
            };
            rows.extend(place.chunks_exact_mut(width).zip(new.chunks_exact(width)));
            (rest, at) = (behind, first + run.len());
        }
        rows.into_par_iter().with_min_len(WORTH_A_THREAD.div_ceil(width)).for_each(|(place, new)| place.copy_from_slice(new));
        Ok(())
    }
}

/// Copies the rows `from` of `cache (·, W)` to those from `to` on.
pub fn copy(cache: &Tensor, from: Range<usize>, to: usize) -> Result<()> {
    Ok(cache.inplace_op1(&RunCopy { from, to })?)
}

struct RunCopy {
    from: Range<usize>,
    to: usize,
}

impl InplaceOp1 for RunCopy {
    fn name(&self) -> &'static str {
        "copy-run"
    }

    fn cpu_fwd(&self, cache: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(cache) = cache else { bail!("{}: rows of f32 only", self.name()) };
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("{}: the rows have gaps", self.name()) };
        let (rows, width) = layout.shape().dims2()?;
        let (from, to) = (&self.from, self.to);
        if from.start > from.end || from.end > rows || to.checked_add(from.len()).is_none_or(|end| end > rows) {
            bail!("{}: rows {from:?} and from {to} on of {rows}", self.name());
        }
        cache[start..end].copy_within(from.start * width..from.end * width, to * width);
        Ok(())
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
