//! One pass through the blocks of rows that belong to different texts: each row enters at its own block, is steered by its own
//! vectors and factor, and sees the cached keys and values of its own text alone.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use crate::Result;
use crate::model::Model;
use crate::model::cache::KvCache;
use crate::model::layout::{Continuation, Layout};
use crate::ops::linear::Products;
use crate::steering::Steering;

/// Some rows of one text that follow each other.
#[derive(Debug)]
pub(super) struct Run {
    /// The first block that computes them.
    pub entry: usize,
    /// What enters that block, before the vectors of the layer below are added. `(R, H)`
    pub x: Tensor,
    /// Place of the rows in their text, and of that text in the cache.
    pub place: Continuation,
    pub steering: Arc<Steering>,
    /// Factor of the vectors at each row. `(R,)`
    pub factors: Vec<f32>,
    /// First block that the vectors can change: what enters it is kept.
    pub split: usize,
}

/// What a pass computed.
pub(super) struct Passed {
    /// The residual after the last block. `(R, H)`
    pub residual: Tensor,
    /// The rows of each run there, in the order of the runs.
    pub rows: Vec<Range<usize>>,
    /// What each run's rows were where its vectors enter, before they did. `(rows, H)`
    pub at_split: Vec<Tensor>,
}

/// Runs all blocks on the rows of some runs, whose new keys and values are written to the cache.
pub(super) fn pass(model: &Model, cache: &mut KvCache, runs: &[Run], products: Products) -> Result<Passed> {
    // Rows that enter later stand behind those that are there.
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|run| runs[*run].entry);
    let mut borders: Vec<usize> = runs.iter().flat_map(|run| [run.entry, run.split]).collect();
    borders.extend(runs.iter().flat_map(|run| run.steering.vectors().map(|(layer, _)| layer + 1)));
    borders.push(model.num_blocks());
    borders.sort_unstable();
    borders.dedup();
    let mut rows = vec![0..0; runs.len()];
    let mut at_split = vec![None; runs.len()];
    let (mut x, mut plan): (Option<Tensor>, _) = (None, None);
    let (mut at, mut entered, mut count) = (0, 0, 0);
    for border in borders {
        if let (Some(x), Some(plan)) = (&mut x, &plan) {
            *x = model.run_cached(at..border, x, plan, cache)?;
        }
        at = border;
        let entering = order[entered..].iter().take_while(|run| runs[**run].entry == border).count();
        for run in &order[entered..entered + entering] {
            rows[*run] = count..count + runs[*run].factors.len();
            count = rows[*run].end;
        }
        if entering > 0 {
            let new = order[entered..entered + entering].iter().map(|run| &runs[*run].x);
            x = Some(Tensor::cat(&x.iter().chain(new).collect::<Vec<_>>(), 0)?);
            entered += entering;
            let places: Vec<Continuation> = order[..entered].iter().map(|run| runs[*run].place).collect();
            plan = Some(model.plan(&Layout { products, ..Layout::continuing(&places) })?);
        }
        let Some(x) = &mut x else { continue };
        for run in order[..entered].iter().filter(|run| runs[**run].split == border) {
            at_split[*run] = Some(x.narrow(0, rows[*run].start, rows[*run].len())?);
        }
        if let Some(layer) = border.checked_sub(1) {
            *x = steered(x, order[..entered].iter().map(|run| &runs[*run]), layer)?;
        }
    }
    let residual = x.ok_or_else(|| candle_core::Error::msg("a pass without rows"))?;
    let at_split = at_split.into_iter().map(|x| x.ok_or_else(|| candle_core::Error::msg("a run above its own vectors")));
    Ok(Passed { residual, rows, at_split: at_split.collect::<candle_core::Result<_>>()? })
}

/// The rows of some runs, one after the other, with each run's vector of `layer` added. `x (R, H)`
fn steered<'a>(x: &Tensor, runs: impl Iterator<Item = &'a Run> + Clone, layer: usize) -> Result<Tensor> {
    let mut x = x.clone();
    let mut distinct: Vec<&Arc<Steering>> = Vec::new();
    for run in runs.clone() {
        let Some(v) = run.steering.at(layer) else { continue };
        if distinct.iter().any(|steering| Arc::ptr_eq(steering, &run.steering)) {
            continue;
        }
        distinct.push(&run.steering);
        let factor_of = |other: &Run, factor: &f32| if Arc::ptr_eq(&other.steering, &run.steering) { *factor } else { 0.0 };
        let factors: Vec<f32> = runs.clone().flat_map(|run| run.factors.iter().map(move |f| factor_of(run, f))).collect();
        if factors.iter().all(|factor| *factor == 0.0) {
            continue;
        }
        let factors = Tensor::from_slice(&factors, (factors.len(), 1), x.device())?;
        x = run.steering.apply(&x, v, &run.steering.factors(&factors)?)?;
    }
    Ok(x)
}
