//! Tests of `magnitudes`.

use super::*;

fn parse(text: &str) -> Vec<f32> {
    text.parse::<Magnitudes>().unwrap().as_slice().to_vec()
}

#[test]
fn lists_and_ranges_are_read() {
    assert_eq!(parse("-2,0,2"), [-2.0, 0.0, 2.0]);
    assert_eq!(parse("-2.0, -1.0"), [-2.0, -1.0]);
    assert_eq!(parse("-2..2:0.5"), [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]);
    assert_eq!(parse("0..0.3:0.1"), [0.0, 0.1, 0.2, 0.3]);
    assert_eq!(parse("2..-2:-2"), [2.0, 0.0, -2.0]);
    assert_eq!(parse("-1..1"), [-1.0, 0.0, 1.0]);
}

#[test]
fn a_range_through_zero_has_an_exact_zero_and_no_drift() {
    assert_eq!(parse("-0.3..0.3:0.1")[3].to_bits(), 0);
    assert_eq!(parse("0.3..-0.3:-0.1")[3].to_bits(), 0);
    for (i, m) in parse("-2..2:0.1").into_iter().enumerate() {
        assert_eq!(m, format!("{}e-1", i as i32 - 20).parse::<f32>().unwrap());
    }
}

#[test]
fn every_zero_is_magnitude_0_whatever_its_sign() {
    for text in ["+0", "-0", "-0.0", "+0.0", "-1e-60", "-0..0", "-1..-0"] {
        assert_eq!(parse(text).last().unwrap().to_bits(), 0, "{text}");
    }
    assert_eq!(parse("-1,+0,+1"), [-1.0, 0.0, 1.0]);
}

#[test]
fn what_is_no_magnitude_is_refused() {
    for text in ["", "a", "1,,2", "1..", "nan", "inf", "1e39", "0..2:0", "0..2:-1", "0..1:1e-9", "1..2..3"] {
        let error = text.parse::<Magnitudes>().unwrap_err();
        assert_eq!(error.exit_code(), 2, "{text}");
    }
}

#[test]
fn a_magnitude_of_many_zeros_is_shown_with_an_exponent() {
    let shown = [0.0, 2.0, -1.5, 0.1, 123_456.0, 3e38, -3e38, 1e-7].map(signed);
    assert_eq!(shown, ["0", "+2", "-1.5", "+0.1", "+123456", "+3e38", "-3e38", "+1e-7"]);
    assert_eq!([3e38, -0.5, 1e9].map(short), ["3e38", "-0.5", "1e9"]);
}
