//! Tests of `ends`.

use super::*;

#[test]
fn ends_count_from_what_prompts_begin_with_and_from_the_response() {
    let included = |first, last, response, own: std::ops::Range<usize>| {
        let ends = Ends { first, last, response };
        (0..10).filter(|index| ends.include(*index, &own)).collect::<Vec<_>>()
    };
    assert_eq!(included(2, 0, false, 3..8), [3, 4]);
    assert_eq!(included(0, 2, false, 3..8), [6, 7]);
    assert_eq!(included(1, 2, true, 3..8), [3, 6, 7, 8, 9]);
    // A prompt that is shorter than both ends together is in them, and nothing before it is.
    assert_eq!(included(9, 9, false, 3..5), [3, 4]);
    assert_eq!(included(2, 2, false, 4..4), [0; 0]);
}
