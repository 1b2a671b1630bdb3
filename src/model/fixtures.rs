//! The tiny models of `tests/fixtures`, for unit tests.

use std::path::Path;

use candle_core::{DType, Device};

use super::Model;
use super::checkpoint::Checkpoint;
use super::config::Config;
use super::weights::{WeightStorage, Weights};

/// A model of random weights on the CPU that computes in `dtype`.
pub fn tiny(name: &str, dtype: DType) -> Model {
    open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), dtype, WeightStorage::Tensors)
}

/// The model of a folder, on the CPU.
pub fn open(folder: &Path, dtype: DType, storage: WeightStorage) -> Model {
    let mut shards: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    shards.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("model"));
    let checkpoint = Checkpoint::Safetensors {
        config: folder.join("config.json"),
        shards,
        tokenizer: folder.join("tokenizer.json"),
        tokenizer_config: None,
        generation_config: None,
        chat_template: None,
    };
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    Model::load_as(&weights, config, dtype, &Device::Cpu, storage).unwrap()
}
