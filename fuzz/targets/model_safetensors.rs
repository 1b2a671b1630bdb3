//! Reads the header and a tensor of a model's safetensors shard.
#![no_main]

use bipo::model::checkpoint::Checkpoint;
use bipo::model::weights::Weights;
use candle_core::{DType, Device};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = bipo_fuzz::file("input.safetensors", data);
    let checkpoint = Checkpoint::Safetensors {
        config: path.clone(),
        shards: vec![path.clone()],
        tokenizer: path,
        tokenizer_config: None,
        generation_config: None,
        chat_template: None,
    };
    let Ok(weights) = Weights::open(&checkpoint) else { return };
    let _ = weights.load("model.norm.weight", &[4], DType::F32, &Device::Cpu);
});
