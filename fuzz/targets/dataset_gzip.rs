//! Reads JSON lines that are compressed with gzip as a data set.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bipo_fuzz::dataset("jsonl.gz", data));
