//! Values with their 95 % intervals: Wilson's score interval for a share of cases, Student's t for the mean of a judge's few
//! scores, else percentile intervals of a seeded bootstrap (Efron and Tibshirani 1993, chapter 13). A seed draws the same
//! resamples for every measure of the same size, so that magnitudes are compared on the same resamples.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::train::share::wilson;

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Value on the data themselves.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// Returns the mean of independent scores and its interval by Student's t, mean ± t·s/√n. For a single score, whose spread
    /// is unknown, the ends are NaN. Returns `None` without scores.
    pub(crate) fn of_mean(scores: &[f64]) -> Option<Self> {
        let n = scores.len() as f64;
        let value = scores.iter().sum::<f64>() / n;
        let variance = scores.iter().map(|score| (score - value).powi(2)).sum::<f64>() / (n - 1.0);
        let t = StudentsT::new(0.0, 1.0, n - 1.0).map_or(f64::NAN, |t| t.inverse_cdf(0.975));
        let half = t * (variance / n).sqrt();
        (!scores.is_empty()).then_some(Self { value, low: value - half, high: value + half })
    }

    /// Returns the share of cases that are true and its score interval by [`wilson`]. Returns `None` without cases.
    pub(crate) fn of_share(cases: impl IntoIterator<Item = bool>) -> Option<Self> {
        let (hits, cases) =
            cases.into_iter().fold((0_usize, 0_usize), |(hits, cases), case| (hits + usize::from(case), cases + 1));
        let value = hits as f64 / cases as f64;
        wilson(value, cases).map(|[low, high]| Self { value, low, high })
    }

    /// Returns the ends of the interval; none where they are not known, or both are the value: few values that are all alike give such
    /// an interval, which says nothing of how sure the value is.
    pub fn interval(&self) -> Option<(f64, f64)> {
        // Sums of the same values in another order differ by rounding.
        let is_wide = self.high - self.low > 1e-9 * self.value.abs();
        (is_wide && self.low.is_finite() && self.high.is_finite()).then_some((self.low, self.high))
    }

    /// Returns the estimate of an increasing function of the value.
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        Self { value: increasing(self.value), low: increasing(self.low), high: increasing(self.high) }
    }
}

/// Settings of the bootstrap.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bootstrap {
    /// Number of resamples, at least one.
    pub resamples: usize,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Bootstrap {
    /// Estimates the mean of values; returns `None` without values.
    pub fn mean(&self, values: &[f64]) -> Option<Estimate> {
        let parts: Vec<[f64; 2]> = values.iter().map(|value| [*value, 1.0]).collect();
        self.ratio(&parts)
    }

    /// Estimates Σ numerator / Σ denominator over parts. Parts with denominator 0 are left out; returns `None` if no others
    /// remain.
    pub fn ratio(&self, parts: &[[f64; 2]]) -> Option<Estimate> {
        let parts: Vec<[f64; 2]> = parts.iter().copied().filter(|part| part[1] != 0.0).collect();
        if parts.is_empty() {
            return None;
        }
        // Each resample has its own random stream, so that the number of threads does not change the result.
        let resample = |stream: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(stream as u64);
            ratio((0..parts.len()).map(|_| parts[rng.random_range(0..parts.len())]))
        };
        let mut drawn: Vec<f64> = (0..self.resamples).into_par_iter().map(resample).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        Some(Estimate { value: ratio(parts.iter().copied()), low: quantile(&drawn, 0.025), high: quantile(&drawn, 0.975) })
    }
}

fn ratio(parts: impl Iterator<Item = [f64; 2]>) -> f64 {
    let [a, b] = parts.fold([0.0, 0.0], |sum, part| [sum[0] + part[0], sum[1] + part[1]]);
    a / b
}

/// The mean; NaN without values.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns a quantile, interpolated between the two nearest values of `sorted` as NumPy does by default.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * sorted.len().saturating_sub(1) as f64;
    let value = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let (below, above) = (value(at.floor() as usize), value(at.ceil() as usize));
    below + (at - at.floor()) * (above - below)
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
