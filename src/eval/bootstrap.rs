//! Values with their uncertainty: Student's t for the mean of a judge's few scores, else percentile intervals of a seeded bootstrap
//! (Efron and Tibshirani 1993, chapter 13). One seed draws the same resamples for every measure of one size, so that magnitudes are compared on the same draws.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// On the data as they are.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// The mean of independent scores and its interval by Student's t, mean ± t·s/√n; the interval's ends are NaN for one score,
    /// which says nothing of the spread. None of none.
    pub fn of_mean(scores: &[f64]) -> Option<Self> {
        let n = scores.len() as f64;
        let value = scores.iter().sum::<f64>() / n;
        let variance = scores.iter().map(|score| (score - value).powi(2)).sum::<f64>() / (n - 1.0);
        let t = StudentsT::new(0.0, 1.0, n - 1.0).map_or(f64::NAN, |t| t.inverse_cdf(0.975));
        let half = t * (variance / n).sqrt();
        (!scores.is_empty()).then_some(Self { value, low: value - half, high: value + half })
    }

    /// The estimate of an increasing function of the value.
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        Self { value: increasing(self.value), low: increasing(self.low), high: increasing(self.high) }
    }
}

/// How intervals are made.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bootstrap {
    /// Resamples; at least one.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Bootstrap {
    /// The mean of values; none of none.
    pub fn mean(&self, values: &[f64]) -> Option<Estimate> {
        let parts: Vec<[f64; 2]> = values.iter().map(|value| [*value, 1.0]).collect();
        self.ratio(&parts)
    }

    /// The share of cases that are true; none of none.
    pub fn share(&self, cases: impl IntoIterator<Item = bool>) -> Option<Estimate> {
        self.mean(&cases.into_iter().map(f64::from).collect::<Vec<f64>>())
    }

    /// Σ numerator / Σ denominator over parts, of which those with denominator 0 say nothing; none of none.
    pub fn ratio(&self, parts: &[[f64; 2]]) -> Option<Estimate> {
        let parts: Vec<[f64; 2]> = parts.iter().copied().filter(|part| part[1] != 0.0).collect();
        if parts.is_empty() {
            return None;
        }
        // A stream a resample: the draws are the same however many threads take them.
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

/// Between the two nearest of `sorted`, as NumPy's default has it.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * sorted.len().saturating_sub(1) as f64;
    let value = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let (below, above) = (value(at.floor() as usize), value(at.ceil() as usize));
    below + (at - at.floor()) * (above - below)
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
