//! Tests of `pt`.

use super::*;

/// With RUST_BACKTRACE set, candle's errors hold a backtrace that takes a second to format, so they must not be formatted
/// whole.
#[test]
fn a_broken_pickle_gives_one_line() {
    assert_eq!(unpickle(b"l").unwrap_err(), "unknown op-code 108");
}
