//! Tests of `files`.

use super::*;

#[test]
fn byte_order_mark_in_front_of_a_text_is_no_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    std::fs::write(&path, "\u{feff}a\u{feff}\n").unwrap();
    assert_eq!(read_text(&path).unwrap(), "a\u{feff}\n");
    assert_eq!(text_of(b"a".to_vec()).as_deref(), Some("a"));
    assert_eq!(text_of(b"\xff".to_vec()), None);
}
