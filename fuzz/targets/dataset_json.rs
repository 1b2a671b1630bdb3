//! Reads JSON and JSONL as a data set.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bipo_fuzz::dataset("json", data));
