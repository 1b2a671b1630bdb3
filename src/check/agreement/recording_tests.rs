//! Tests of `recording`.

use super::*;

#[test]
fn one_loss_that_is_no_number_or_missing_fails_the_run() {
    let trace = |losses: &[f64]| Trace {
        losses: losses.to_vec(),
        gradients: losses.iter().map(|_| vec![1.0, 2.0]).collect(),
        v: vec![3.0],
    };
    let expected = trace(&[0.7, 0.6, 0.5]);
    let passed = |losses: &[f64]| -> Vec<bool> {
        trace(losses).compare("x", DType::F32, &expected).iter().map(|check| check.passed).collect()
    };
    assert_eq!(passed(&[0.7, 0.600001, 0.5]), [true, true, true]);
    assert_eq!(passed(&[0.7, 0.6001, 0.5]), [false, true, true]);
    assert_eq!(passed(&[0.7, f64::NAN, 0.5]), [false, true, true]);
    assert_eq!(passed(&[0.7, 0.6]), [false, false, true]);
}
