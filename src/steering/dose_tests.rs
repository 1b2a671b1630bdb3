//! Tests of `dose`.

use candle_core::Device;

use super::*;

#[test]
fn the_dose_is_the_length_of_what_is_added_over_that_of_the_residual() {
    assert_eq!(dose(-2.0, l2_norm(&[3.0, -4.0]), 20.0), 0.5);
    assert_eq!(dose(0.0, 5.0, 20.0), 0.0);
}

#[test]
fn one_long_row_does_not_move_the_median_and_rows_that_are_not_steered_do_not_count() {
    let rows = [[300.0f32, 400.0], [3.0, 4.0], [6.0, 8.0], [0.0, 1.0]];
    let residual = Tensor::new(&rows, &Device::Cpu).unwrap();
    let norms = row_norms(&residual).unwrap();
    assert_eq!(norms, [500.0, 5.0, 10.0, 1.0]);
    assert_eq!(median_of_steered(norms.clone(), [true; 4]), Some(10.0));
    assert_eq!(median_of_steered(norms.clone(), [false, true, false, true]), Some(5.0));
    assert_eq!(median_of_steered(norms, [false; 4]), None);
}
