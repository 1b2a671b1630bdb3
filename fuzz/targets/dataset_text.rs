//! Reads a data set whose name has no extension: the content tells its format, its encoding and what separates its fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bipo_fuzz::dataset("data", data));
