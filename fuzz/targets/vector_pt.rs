//! Reads PyTorch's zip archive with a pickle as a vector.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus { bipo_fuzz::vector(data, |data| data.starts_with(b"PK\x03\x04")) });
