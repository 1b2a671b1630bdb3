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
    assert_eq!(row_norms(&residual).unwrap(), [500.0, 5.0, 10.0, 1.0]);
    assert_eq!(steered_norm(&residual, [true; 4]).unwrap(), Some(10.0));
    assert_eq!(steered_norm(&residual, [false, true, false, true]).unwrap(), Some(5.0));
    assert_eq!(steered_norm(&residual, [false; 4]).unwrap(), None);
}

#[test]
fn the_dose_of_an_ablation_is_the_share_of_the_residual_along_the_vector() {
    let residual = Tensor::new(&[[3.0f32, 4.0], [0.0, 2.0], [-5.0, 0.0]], &Device::Cpu).unwrap();
    let share = |steered: [bool; 3]| steered_share(&residual, &[10.0, 0.0], steered).unwrap();
    assert_eq!(share([true, false, false]).map(|share| share as f32), Some(0.6));
    assert_eq!(share([false, true, false]), Some(0.0));
    assert_eq!(share([false, false, true]), Some(1.0));
    assert_eq!(share([false; 3]), None);
    assert_eq!(steered_share(&residual, &[0.0, 0.0], [true; 3]).unwrap(), Some(0.0));
}
