//! Values with their uncertainty: percentile intervals of a seeded bootstrap (Efron and Tibshirani 1993, chapter 13). One
//! seed draws the same resamples for every measure of one size, so that magnitudes are compared on the same draws.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// A value, and the interval that holds 95 % of its bootstrap distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// On the data as they are.
    pub value: f64,
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

impl Estimate {
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
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 20_000, seed: 11 };

    /// The bootstrap distribution of a mean has the standard error sd/√n (sd with divisor n) and is nearly normal.
    #[test]
    fn interval_of_a_mean_is_the_normal_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f64> = (0..400).map(|_| rng.random_range(-2.0..5.0)).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let error = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt() / n.sqrt();
        let estimate = BOOTSTRAP.mean(&values).unwrap();
        assert!((estimate.value - mean).abs() < 1e-12);
        for (found, expected) in [(estimate.low, mean - 1.96 * error), (estimate.high, mean + 1.96 * error)] {
            assert!((found - expected).abs() < 0.05 * error, "{found} {expected} {error}");
        }
    }

    /// Each resample of a share draws a binomial count, so that the interval's ends are that distribution's quantiles.
    #[test]
    fn interval_of_a_share_is_the_binomial_one() {
        for (n, hits) in [(50_u32, 35_u32), (200, 10), (20, 10)] {
            let p = f64::from(hits) / f64::from(n);
            let mut density = (1.0 - p).powi(n as i32);
            let mut below = density;
            let mut ends = [0.0; 2];
            for k in 0..n {
                for (end, share) in ends.iter_mut().zip([0.025, 0.975]) {
                    if below < share {
                        *end = f64::from(k + 1) / f64::from(n);
                    }
                }
                density *= f64::from(n - k) / f64::from(k + 1) * p / (1.0 - p);
                below += density;
            }
            let estimate = BOOTSTRAP.share((0..n).map(|i| i < hits)).unwrap();
            assert_eq!(estimate.value, p);
            // A quantile on the border of two counts may fall on either.
            let step = 1.0 / f64::from(n) + 1e-9;
            assert!((estimate.low - ends[0]).abs() < step && (estimate.high - ends[1]).abs() < step, "{estimate:?} {ends:?}");
        }
    }

    #[test]
    fn ratio_weighs_its_parts_and_leaves_empty_ones_out() {
        let estimate = BOOTSTRAP.ratio(&[[1.0, 10.0], [3.0, 10.0], [0.0, 0.0]]).unwrap();
        assert_eq!(estimate, Estimate { value: 0.2, low: 0.1, high: 0.3 });
        assert_eq!(BOOTSTRAP.ratio(&[[1.0, 0.0]]), None);
    }

    #[test]
    fn equal_seeds_give_equal_intervals_and_other_seeds_others() {
        let values: Vec<f64> = (0..30).map(|i| f64::from(i * i)).collect();
        let with = |seed| Bootstrap { resamples: 500, seed }.mean(&values);
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    /// `numpy.quantile([1, 2, 4, 8], [0.025, 0.975])`
    #[test]
    fn quantiles_are_those_of_numpy() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert!((quantile(&values, 0.025) - 1.075).abs() < 1e-12 && (quantile(&values, 0.975) - 7.7).abs() < 1e-12);
    }
}
