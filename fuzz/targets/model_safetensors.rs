//! Reads the header and a tensor of a model's safetensors shard.
#![no_main]

use std::path::Path;

use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::weights::Weights;
use candle_core::{DType, Device};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = bipo_fuzz::file("input.safetensors", data);
    let checkpoint = Checkpoint::Safetensors {
        config: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/llama/config.json"),
        shards: vec![path.clone()],
        tokenizer: path,
        tokenizer_config: None,
        generation_config: None,
        chat_template: None,
    };
    let Ok(weights) = Weights::open(&checkpoint) else { return };
    let config = Config::load(&checkpoint, &weights).expect("the fixture is a configuration");
    let _ = weights.load("model.norm.weight", &[4], &config, DType::F32, &Device::Cpu);
});
