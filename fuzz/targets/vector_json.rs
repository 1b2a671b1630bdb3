//! Reads bipo's JSON, an .svec or a bare list of numbers as a vector.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus { bipo_fuzz::vector(data, |data| matches!(data.trim_ascii_start(), [b'{' | b'[', ..])) });
