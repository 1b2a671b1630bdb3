//! Tests of `lens`.

use super::*;

#[test]
fn one_huge_first_token_moves_the_mean_and_not_the_median() {
    let norm = summary(vec![1000.0, 2.0, 3.0, 1.0, 4.0]);
    assert_eq!(norm, ResidualNorm { mean: 202.0, median: 3.0 });
}
