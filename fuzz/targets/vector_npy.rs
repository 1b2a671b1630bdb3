//! Reads NumPy's array file as a vector.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus { bipo_fuzz::vector(data, |data| data.starts_with(b"\x93NUMPY")) });
