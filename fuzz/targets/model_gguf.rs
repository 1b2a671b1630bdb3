//! Reads a model as GGUF: header, configuration, special tokens, a tensor, and the tokenizer, which then encodes a text.
#![no_main]

use bipo::model::config::Config;
use bipo::model::checkpoint::Checkpoint;
use bipo::text::token_ids::TokenIds;
use bipo::model::weights::Weights;
use bipo::text::tokens::tokenizer_from_gguf;
use candle_core::{DType, Device};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let checkpoint = Checkpoint::Gguf { path: bipo_fuzz::file("input.gguf", data), tokenizer: None };
    let Ok(weights) = Weights::open(&checkpoint) else { return };
    if let Ok(config) = Config::load(&checkpoint, &weights) {
        config.matrix_elements();
        let _ = weights.load("model.norm.weight", &[config.hidden_size], &config, DType::F32, &Device::Cpu);
    }
    let Some(Ok(tokenizer)) = weights.gguf_metadata().map(tokenizer_from_gguf) else { return };
    let _ = TokenIds::load(&checkpoint, &weights, |token| tokenizer.token_to_id(token));
    bipo_fuzz::encode(&tokenizer);
});
