//! Tests of `prefix`.

use super::*;

#[test]
fn no_piece_of_a_long_prompt_and_no_rest_of_it_is_too_short() {
    for prompt in FEWEST_ROWS_TOGETHER..300 {
        for most in [1, 5, 13, 20, 96] {
            let mut left = prompt;
            while left > 0 {
                let rows = piece(left, most);
                assert!(
                    rows >= FEWEST_ROWS_TOGETHER && rows <= most.max(FEWEST_ROWS_TOGETHER) + FEWEST_ROWS_TOGETHER,
                    "{rows} of {left}"
                );
                left -= rows;
            }
        }
    }
}
