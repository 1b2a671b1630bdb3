//! Tests of `bytes`.

use super::*;

#[cfg(target_os = "linux")]
#[test]
fn what_is_free_is_less_than_what_there_is() {
    let (free, total) = (available_memory().unwrap(), total_memory().unwrap());
    assert!(Bytes(0) < free && free < total, "{free} of {total}");
}

#[test]
fn sizes_are_read_in_both_kinds_of_units() {
    for (text, bytes) in [
        ("0", 0),
        ("2GB", 2_000_000_000),
        ("1.5 gb", 1_500_000_000),
        ("500MiB", 524_288_000),
        ("7kb", 7000),
        ("3 KiB", 3072),
        ("12345", 12345),
        ("1TB", 1_000_000_000_000),
    ] {
        assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
    }
    for text in ["", "GB", "-1GB", "2XB", "nan", "inf GB", "1e30TB", "2GB2"] {
        assert_eq!(text.parse::<Bytes>().unwrap_err().exit_code(), 2, "{text}");
    }
}

#[test]
fn sizes_are_written_in_the_largest_unit_that_fits() {
    let written = [0, 999, 1_000, 24_150_000, 2_000_000_000, 5_600_000_000_000].map(|bytes| Bytes(bytes).to_string());
    assert_eq!(written, ["0 B", "999 B", "1.0 kB", "24.1 MB", "2.0 GB", "5.6 TB"]);
}
