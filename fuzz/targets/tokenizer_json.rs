//! Reads a model's `tokenizer.json`, and encodes a text with it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(tokenizer) = bipo::text::tokens::tokenizer_from_file(&bipo_fuzz::file("tokenizer.json", data)) {
        bipo_fuzz::encode(&tokenizer);
    }
});
