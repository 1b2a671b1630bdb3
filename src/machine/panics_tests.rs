//! Tests of `panics`.

use super::*;

#[test]
fn a_panic_gives_none_and_the_next_call_works() {
    assert_eq!(caught(|| -> usize { panic!("as a parser does") }), None);
    assert_eq!(caught(|| caught(|| 3)), Some(Some(3)));
    assert!(!QUIET.get());
}
