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
pub(crate) fn row_norms(residual: &Tensor) -> Result<Vec<f32>> {
    Ok(residual.to_dtype(DType::F32)?.sqr()?.sum(1)?.sqrt()?.to_vec1()?)
}

/// The median of some lengths, the upper one of two; none of none.
pub(crate) fn median(mut norms: Vec<f32>) -> Option<f64> {
    norms.sort_unstable_by(f32::total_cmp);
    norms.get(norms.len() / 2).copied().map(f64::from)
}

/// The median of what each row has, over the steered rows; none where no row is. `lengths (T,)`, `steered (T,)`
pub(crate) fn median_of_steered(lengths: Vec<f32>, steered: impl IntoIterator<Item = bool>) -> Option<f64> {
    median(lengths.into_iter().zip(steered).filter_map(|(length, is_steered)| is_steered.then_some(length)).collect())
}

#[cfg(test)]
#[path = "dose_tests.rs"]
mod tests;
