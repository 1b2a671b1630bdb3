//! Tests of `columns`.

use super::*;

#[test]
fn a_small_dose_shows_two_digits_that_are_not_0() {
    let shown = [0.0, 1.234, 0.5, 0.0346, -0.000_412].map(dose);
    assert_eq!(shown, ["0.00", "1.23", "0.50", "0.035", "-0.00041"]);
    assert_eq!(dose(f64::INFINITY), "inf");
    assert_eq!([999_999.0, 7.234e35, -2e6].map(dose), ["999999.00", "7.23e35", "-2.00e6"]);
}
