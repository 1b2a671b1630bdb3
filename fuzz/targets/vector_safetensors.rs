//! Reads safetensors as a vector.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus { bipo_fuzz::vector(data, |data| data.get(8) == Some(&b'{')) });
