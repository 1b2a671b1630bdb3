//! Tests of `ranking`.

use super::*;

#[test]
fn responses_of_equal_grade_are_no_pair() {
    let grades = [1.0, 3.0, 3.0, 2.0];
    assert_eq!(Ranking::BestWorst.pairs(&grades), [(1, 0)]);
    assert_eq!(Ranking::Adjacent.pairs(&grades), [(2, 3), (3, 0)]);
    assert_eq!(Ranking::All.pairs(&grades), [(1, 3), (1, 0), (2, 3), (2, 0), (3, 0)]);
    for ranking in [Ranking::BestWorst, Ranking::Adjacent, Ranking::All] {
        assert_eq!(ranking.pairs(&[2.0, 2.0]), []);
        assert_eq!(ranking.pairs(&[2.0]), []);
        assert_eq!(ranking.pairs(&[]), []);
    }
}
