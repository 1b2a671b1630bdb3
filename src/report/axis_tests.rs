//! Tests of axes: their ends, the places of their ticks, and what the ticks say.

use super::*;

fn labels(axis: &Axis) -> Vec<&str> {
    axis.ticks().map(|(_, label)| label).collect()
}

fn linear(values: [f64; 2], count: f64) -> Axis {
    Axis::new(Scale::Linear, values.into_iter(), count)
}

fn log(values: [f64; 2], count: f64) -> Axis {
    Axis::new(Scale::Log, values.into_iter(), count)
}

#[test]
fn an_axis_ends_at_ticks_that_are_round_and_have_equal_decimals() {
    assert_eq!(labels(&linear([-0.31, 0.93], 5.0)), ["−0.5", "0.0", "0.5", "1.0"]);
    assert_eq!(labels(&linear([-1.0, 1.0], 4.0)), ["−1.0", "−0.5", "0.0", "0.5", "1.0"]);
    assert_eq!(labels(&linear([0.0, 0.3], 3.0)), ["0.0", "0.1", "0.2", "0.3"]);
    assert_eq!(labels(&linear([0.0, 3e6], 3.0)), ["0", "1e6", "2e6", "3e6"]);
    assert_eq!(labels(&linear([0.0, 2e-6], 2.0)), ["0", "1e−6", "2e−6"]);
    assert_eq!(labels(&Axis::new(Scale::Whole, [1.0, 3.0].into_iter(), 8.0)), ["1", "2", "3"]);
}

#[test]
fn a_linear_axis_begins_at_0_where_its_values_begin_near_it() {
    assert_eq!(labels(&linear([0.3, 1.0], 2.0)), ["0.0", "0.5", "1.0"]);
    assert_eq!(labels(&linear([3.6, 4.0], 2.0)), ["3.6", "3.8", "4.0"]);
    assert_eq!(labels(&Axis::new(Scale::Whole, [2.0, 8.0].into_iter(), 3.0)), ["2", "4", "6", "8"]);
}

#[test]
fn a_log_axis_has_decades_or_parts_of_them() {
    assert_eq!(labels(&log([8.0, 120.0], 8.0)), ["5", "10", "20", "50", "100", "200"]);
    assert_eq!(labels(&log([1.0, 1e5], 6.0)), ["1", "10", "100", "1000", "10000", "100000"]);
    assert_eq!(labels(&log([0.01, 1.0], 3.0)), ["0.01", "0.1", "1"]);
    assert_eq!(labels(&log([1e-7, 1e2], 3.0)), ["1e−9", "1e−6", "0.001", "1", "1000"]);
}

#[test]
fn a_log_axis_is_linear_where_it_has_less_than_a_decade_or_a_value_that_is_not_positive() {
    assert_eq!(log([14.0, 18.0], 4.0), linear([14.0, 18.0], 4.0));
    assert_eq!(log([0.0, 100.0], 4.0), linear([0.0, 100.0], 4.0));
}

#[test]
fn values_lie_between_the_ends_in_proportion() {
    assert_eq!(linear([-1.0, 1.0], 2.0).share(0.5), Some(0.75));
    assert_eq!(log([1.0, 100.0], 2.0).share(10.0), Some(0.5));
}

#[test]
fn equal_values_and_none_have_an_axis_too() {
    assert!((linear([2.0, 2.0], 2.0).share(2.0).unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(linear([0.0, 0.0], 2.0).share(0.0), Some(0.5));
    assert_eq!(labels(&linear([f64::NAN, f64::INFINITY], 2.0)), ["0.0", "0.5", "1.0"]);
}

#[test]
fn what_is_not_finite_or_too_large_has_no_place() {
    let axis = linear([0.0, 1.0], 2.0);
    assert_eq!([f64::NAN, f64::INFINITY, 1e300].map(|value| axis.share(value)), [None; 3]);
    assert_eq!(log([1.0, 100.0], 2.0).share(0.0), None);
}
