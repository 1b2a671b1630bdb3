//! Tests of `segment_tables`.

use super::*;

#[test]
fn rows_are_cut_where_a_segment_begins_or_ends_to_see_them() {
    // A prompt of 3 rows, two responses of 2 and 1, and a row that nobody sees.
    let segment = |own: Range<usize>, context: [Range<usize>; 2]| Segment { queries: own.clone(), context, own };
    let segments =
        [segment(0..3, [0..0, 0..0]), segment(3..5, [0..2, 2..3]), segment(5..5, [0..3, 0..0]), segment(5..6, [0..3, 0..0])];
    let tables = SegmentTables::new(&segments, 7, &Device::Cpu).unwrap();
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<u32>().unwrap();
    assert_eq!(tables.queries, [3, 2, 1]);
    assert_eq!(tables.rows, [2, 1, 2, 1, 1]);
    assert_eq!(numbers(&tables.segments)[8..16], [3, 2, 4, 0, 2, 2, 1, 3]);
    assert_eq!(numbers(&tables.intervals)[4..12], [2, 1, 3, 3, 3, 2, 6, 1]);
    assert_eq!(numbers(&tables.entries), [0, 0, 1, 0, 2, 0, 0, 2, 1, 2, 2, 2, 1, 3, 2, 3]);
    assert_eq!(numbers(&tables.own), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_rows_of_a_cache_get_no_gradient() {
    let continuing = Segment { queries: 0..1, context: [8..12, 0..0], own: 12..13 };
    let tables = SegmentTables::new(&[continuing], 1, &Device::Cpu).unwrap();
    assert!(tables.rows.is_empty());
    assert_eq!(tables.own.to_vec1::<u32>().unwrap(), [12]);
    assert_eq!(tables.queries, [1]);
}
