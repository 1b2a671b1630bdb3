//! Tests of `vector`: against the standard library and f64.

use super::*;

#[test]
fn exp_agrees_with_the_standard_library_over_its_range() {
    let mut worst = 0f64;
    for i in -870_000..=880_000 {
        let x = i as f32 * 1e-4;
        let expected = (x as f64).exp();
        worst = worst.max((exp(x) as f64 / expected - 1.0).abs());
    }
    assert!(worst < 2.5e-7, "relative error {worst}");
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(exp(-1e4), 0.0);
    assert!(exp(f32::NAN).is_nan());
    assert!(exp(88.7).is_finite());
}

#[test]
fn dot_max_and_exp_sum_cover_the_rest_after_full_lanes() {
    let a: Vec<f32> = (0..37).map(|i| i as f32 * 0.1 - 2.0).collect();
    let b: Vec<f32> = (0..37).map(|i| 1.0 - i as f32 * 0.05).collect();
    let expected: f64 = a.iter().zip(&b).map(|(x, y)| *x as f64 * *y as f64).sum();
    assert!((dot(&a, &b) as f64 - expected).abs() < 1e-5);
    assert_eq!(max(&a), a[36]);
    let mut e = a.clone();
    let total: f64 = a.iter().map(|x| (*x as f64 - 1.0).exp()).sum();
    assert!((exp_sum(&mut e, 1.0) as f64 - total).abs() < 1e-5);
}

#[test]
fn tanh_agrees_with_f64_over_its_range() {
    let mut worst = 0f64;
    for i in (-200_000..=200_000).filter(|i| *i != 0) {
        let x = i as f32 * 5e-5;
        let expected = (x as f64).tanh();
        worst = worst.max((tanh(x) as f64 / expected - 1.0).abs());
    }
    assert!(worst < 2.5e-7, "relative error {worst}");
    assert_eq!(tanh(1e-12), 1e-12);
    assert_eq!(tanh(0.0), 0.0);
    assert_eq!([f32::NEG_INFINITY, -1e4, 1e4, f32::INFINITY].map(tanh), [-1.0, -1.0, 1.0, 1.0]);
    assert!(tanh(f32::NAN).is_nan());
}
