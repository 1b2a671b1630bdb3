//! Tests of the first component against one that is known.

use super::*;

#[test]
fn the_first_component_is_the_direction_in_which_rows_are_longest() {
    // Rows along (3, 4)/5 of lengths 10, 8 and -2, and one of length 1 across.
    let along = |length: f64| vec![0.6 * length, 0.8 * length];
    let rows = [along(10.0), along(8.0), along(-2.0), vec![-0.8, 0.6]];
    let mut sum = Sum::default();
    rows.iter().for_each(|row| sum.add(row));
    let u = first_component(&rows, &sum.mean(), PASSES);
    assert!((u[0] - 0.6).abs() < 1e-12 && (u[1] - 0.8).abs() < 1e-12, "{u:?}");
    assert_eq!(first_component(&[vec![0.0, 0.0]], &[0.0, 0.0], PASSES), [0.0, 0.0]);
}
