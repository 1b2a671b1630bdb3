//! Tests of `error`.

use super::*;

#[test]
fn what_a_file_says_cannot_break_the_line_or_colour_the_terminal() {
    let error = Error::malformed("a.csv", "no column x; found a\nb, \u{1b}[31mred, é").to_string();
    assert_eq!(error, "a.csv: no column x; found a\\nb, \\u{1b}[31mred, é");
}

#[test]
fn a_device_without_room_is_told_with_what_helps() {
    // As candle prints cudarc's error.
    let error = candle_core::Error::msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
    let told = Error::from(error);
    assert!(matches!(told, Error::Memory(_)) && told.to_string().contains("out of memory"), "{told}");
    assert!(matches!(Error::from(candle_core::Error::msg("shape mismatch")), Error::Tensor(_)));
}

#[test]
fn a_long_message_is_cut() {
    let error = Error::malformed("a.csv", "é".repeat(100_000)).to_string();
    assert_eq!(error, format!("a.csv: {}…", "é".repeat(1000)));
}
