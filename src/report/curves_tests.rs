//! Tests of what curves do to their points.

use super::*;

#[test]
fn a_straight_line_is_smoothed_to_itself() {
    let line: Vec<Point> = (0..200).map(|x| Point::new(f64::from(x), 3.0 * f64::from(x) - 7.0)).collect();
    for (smooth, expected) in smoothed(&line).into_iter().zip(&line) {
        assert!((smooth.y - expected.y).abs() < 1e-9, "{expected:?}");
    }
}

#[test]
fn thinning_keeps_the_last_point_and_a_bounded_number() {
    let line: Vec<Point> = (0..10_007).map(|x| Point::new(f64::from(x), 0.0)).collect();
    let thinned = thin(line);
    assert_eq!(thinned.last().unwrap().x, 10_006.0);
    assert!((500..=MOST_POINTS).contains(&thinned.len()));
    assert!(thin(Vec::new()).is_empty());
}
