//! Tests of `pt`.

use super::*;

/// It did not where RUST_BACKTRACE is set: then candle's errors hold a backtrace, a second's work to write.
#[test]
fn a_broken_pickle_gives_one_line() {
    assert_eq!(unpickle(b"l").unwrap_err(), "unknown op-code 108");
}
