//! Tests of `layout`.

use super::*;

#[test]
fn branches_share_their_prompt_and_stay_apart() {
    let mut layout = Layout::default();
    layout.push_sequence(2);
    layout.push_branches(&Branches { shared: 3, first: 2, second: 1 });
    assert_eq!(layout.positions, [0, 1, 0, 1, 2, 3, 4, 3]);
    assert_eq!(layout.lengths, [2, 2, 6, 6, 6, 6, 6, 5]);
    assert_eq!(layout.segments[2], Segment { queries: 5..7, context: [2..2, 2..5], own: 5..7 });
    assert_eq!(layout.segments[3], Segment { queries: 7..8, context: [2..2, 2..5], own: 7..8 });
    assert_eq!(layout.segments[3].visible(0, None), 0..4);
    assert_eq!(layout.segments[2].visible(1, Some(2)), 3..5);
}

#[test]
fn branches_of_several_pairs_share_their_common_prefix() {
    let mut layout = Layout::default();
    let all_branches = [Branches { shared: 3, first: 2, second: 1 }, Branches { shared: 2, first: 1, second: 0 }];
    layout.push_all_branches(2, &all_branches);
    assert_eq!(layout.positions, [0, 1, 2, 3, 4, 3, 2]);
    let segment = |own: Range<usize>, context| Segment { queries: own.clone(), context, own };
    let expected = [
        segment(0..2, [0..0, 0..0]),
        segment(2..3, [0..2, 0..0]),
        segment(3..5, [0..2, 2..3]),
        segment(5..6, [0..2, 2..3]),
        segment(6..7, [0..2, 6..6]),
    ];
    assert_eq!(layout.segments, expected);
    assert_eq!(layout.segments[3].key_rows().collect::<Vec<_>>(), [0, 1, 2, 5]);
}

#[test]
fn selected_queries_keep_their_keys() {
    let mut layout = Layout::default();
    layout.push_branches(&Branches { shared: 3, first: 2, second: 2 });
    let (segments, rows) = layout.select(&[2, 3, 5, 6]);
    assert_eq!(rows, [2, 3, 5, 6]);
    assert_eq!(segments[0], Segment { queries: 0..1, context: [0..0, 0..0], own: 0..3 });
    assert_eq!(segments[1], Segment { queries: 1..2, context: [0..0, 0..3], own: 3..4 });
    assert_eq!(segments[1].visible(0, None), 0..4);
    assert_eq!(segments[2], Segment { queries: 2..4, context: [0..0, 0..3], own: 5..7 });
}
