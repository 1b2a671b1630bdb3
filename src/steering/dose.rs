//! The dose of a vector: its length, times the magnitude, over the length of the residual that it is added to,
//!
//! dose = ‖m·v‖ / ‖h‖
//!
//! at the lowest steered layer, where ‖h‖ is the median over the steered tokens: those of a pair in an evaluation, those of the
//! prompt where text is generated (all of the prompt's where only what is generated is steered). It is a median because the
//! first token's residual is often hundreds of times longer than the others'.
//!
//! The dose of an ablation is the length of what is taken out over that of the residual, |m|·|v·h| / (‖v‖·‖h‖), the median over
//! the same tokens.

use candle_core::{DType, Tensor};

use crate::Result;

/// ‖m·v‖/‖h‖ from the lengths of v and h.
pub fn dose(magnitude: f32, vector_norm: f64, residual_norm: f64) -> f64 {
    f64::from(magnitude.abs()) * vector_norm / residual_norm
}

/// √Σx², summed in f64.
pub fn l2_norm(x: &[f32]) -> f64 {
    x.iter().map(|x| *x as f64 * *x as f64).sum::<f64>().sqrt()
}

/// Length of each row of a residual, in f32. `residual (T, H)` → `(T,)`
pub fn row_norms(residual: &Tensor) -> Result<Vec<f32>> {
    Ok(residual.to_dtype(DType::F32)?.sqr()?.sum(1)?.sqrt()?.to_vec1()?)
}

/// The median of some lengths, the upper one of two; none of none.
pub fn median(mut norms: Vec<f32>) -> Option<f64> {
    norms.sort_unstable_by(f32::total_cmp);
    norms.get(norms.len() / 2).copied().map(f64::from)
}

/// The median length of a residual's steered rows; none where no row is. `residual (T, H)`, `steered (T,)`
pub fn steered_norm(residual: &Tensor, steered: impl IntoIterator<Item = bool>) -> Result<Option<f64>> {
    let norms = row_norms(residual)?.into_iter().zip(steered);
    Ok(median(norms.filter_map(|(norm, is_steered)| is_steered.then_some(norm)).collect()))
}

/// The median, over a residual's steered rows, of the share of its length that lies along a vector, |v·h| / (‖v‖·‖h‖); none where
/// no row is steered. `residual (T, H)`, `v (H)`, `steered (T,)`
pub fn steered_share(residual: &Tensor, v: &[f32], steered: impl IntoIterator<Item = bool>) -> Result<Option<f64>> {
    let length = l2_norm(v).max(f64::MIN_POSITIVE);
    let v = Tensor::from_slice(v, (v.len(), 1), residual.device())?;
    let along: Vec<f32> = residual.to_dtype(DType::F32)?.matmul(&v)?.flatten_all()?.to_vec1()?; // (T,)
    let share = |(along, norm): (f32, f32)| (f64::from(along.abs()) / length / f64::from(norm).max(f64::MIN_POSITIVE)) as f32;
    let shares = along.into_iter().zip(row_norms(residual)?).map(share).zip(steered);
    Ok(median(shares.filter_map(|(share, is_steered)| is_steered.then_some(share)).collect()))
}

#[cfg(test)]
#[path = "dose_tests.rs"]
mod tests;
