//! Tests of `rows`.

use super::*;

#[test]
fn runs_never_overlap_and_gaps_are_used_again() {
    let mut rows = Rows::new(10);
    let (a, b, c) = (rows.take(4).unwrap(), rows.take(3).unwrap(), rows.take(3).unwrap());
    assert_eq!((a.clone(), b.clone(), c), (0..4, 4..7, 7..10));
    assert_eq!(rows.take(1), None);
    rows.shrink(&b, 0);
    rows.shrink(&a, 2);
    assert_eq!(rows.take(6), None);
    assert_eq!(rows.take(5), Some(2..7));
    assert_eq!(rows.take(1), None);
}
