//! Tests of `bootstrap`.

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
        let estimate = BOOTSTRAP.mean(&(0..n).map(|i| f64::from(i < hits)).collect::<Vec<_>>()).unwrap();
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
fn an_interval_without_width_or_without_ends_is_none() {
    assert_eq!(BOOTSTRAP.mean(&[0.25]).unwrap().interval(), None);
    assert_eq!(BOOTSTRAP.mean(&[0.25; 9]).unwrap().interval(), None);
    assert_eq!(Estimate::of_mean(&[3.0]).unwrap().interval(), None);
    assert_eq!(Estimate { value: 0.0, low: 0.0, high: 0.5 }.interval(), Some((0.0, 0.5)));
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

/// `scipy.stats.binomtest(k, n).proportion_ci(method="wilson")` of SciPy 1.
#[test]
fn interval_of_a_share_is_wilsons() {
    let expected = [(4, 4, 0.510_109_163_5), (35, 50, 0.562_496_495_4), (1, 300, 0.000_588_657_7)];
    for (hits, n, low) in expected {
        let estimate = Estimate::of_share((0..n).map(|i| i < hits)).unwrap();
        assert_eq!(estimate.value, f64::from(hits) / f64::from(n));
        assert!((estimate.low - low).abs() < 1e-10, "{estimate:?}");
    }
    assert_eq!(Estimate::of_share([true; 4]).unwrap().high, 1.0);
    let none = Estimate::of_share([false; 4]).unwrap();
    assert!(none.low == 0.0 && (none.high - 0.489_890_836_5).abs() < 1e-10, "{none:?}");
    assert_eq!(Estimate::of_share([]), None);
}

/// `scipy.stats.t.interval(0.95, 3, 2.5, scipy.stats.sem([1, 2, 3, 4]))`, by the table's t(3) = 3.182446.
#[test]
fn interval_of_a_judges_mean_is_students() {
    let four = Estimate::of_mean(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    let half = 3.182_446 * (5.0_f64 / 3.0 / 4.0).sqrt();
    assert!((four.low - (2.5 - half)).abs() < 1e-6 && (four.high - (2.5 + half)).abs() < 1e-6, "{four:?}");
    let one = Estimate::of_mean(&[3.0]).unwrap();
    assert!(one.value == 3.0 && one.low.is_nan() && one.high.is_nan());
    assert_eq!(Estimate::of_mean(&[]), None);
}
