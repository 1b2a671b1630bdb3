//! Reads the same bytes as a model's `config.json`, `generation_config.json` and `tokenizer_config.json`.
#![no_main]

use std::path::Path;

use bipo::model::config::Config;
use bipo::text::chat::chat_template_of;
use bipo::text::token_ids::TokenIds;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let path = Path::new("config.json");
    if let Ok(config) = Config::from_json(text, path) {
        config.matrix_elements();
    }
    let _ = TokenIds::from_json([(); 3].map(|()| Some((text.to_owned(), path))), |token| u32::try_from(token.len()).ok());
    let _ = bipo_fuzz::json(text).map(|value| chat_template_of(&value));
});
