//! What several test modules share: the real small model, the recorded numbers, random tensors.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bipo::generate::GenerateOptions;
use bipo::model::Model;
use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::weights::Weights;
use candle_core::{DType, Device};
use serde_json::Value;

/// A file of what the authors' trainer was recorded to compute.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden").join(name)
}

pub fn golden_json(name: &str) -> Value {
    let path = golden(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

pub fn greedy(max_new_tokens: usize, eos: &[u32]) -> GenerateOptions {
    GenerateOptions { eos: eos.to_vec(), ..GenerateOptions::greedy(max_new_tokens) }
}

/// Where the real small model is: `BIPO_SMOLLM2`, or bipo's cache directory.
pub fn smollm2_path() -> PathBuf {
    let cached = || bipo::hub::cache_dir::cache_dir().unwrap().join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let path = std::env::var_os("BIPO_SMOLLM2").map_or_else(cached, PathBuf::from);
    assert!(path.is_file(), "{} is not there: run scripts/fetch-smollm2.sh first", path.display());
    path
}

static SMOLLM2: LazyLock<Model> = LazyLock::new(|| {
    let checkpoint = Checkpoint::Gguf { path: smollm2_path(), tokenizer: None };
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    Model::load(&weights, config, DType::F32, &Device::Cpu).unwrap()
});

/// SmolLM2-135M-Instruct in f32.
pub fn smollm2() -> &'static Model {
    &SMOLLM2
}

/// A run of the program on the real small model.
pub struct Training {
    /// What the vector's metadata says of it.
    pub metadata: Value,
    /// Norm of the vector.
    pub norm: f64,
}

/// Runs `bipo train` with `flags` on the real small model, into `dir`.
pub fn train_smollm2(flags: &[&str], dir: &Path) -> Training {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["train", "--quiet", "--offline", "--model", smollm2_path().to_str().unwrap()])
        .args(flags)
        .arg("--output-dir")
        .arg(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let vector = bipo::steering::vector::SteeringVector::read(&dir.join("steering_vector.safetensors"), None).unwrap();
    let norm = bipo::steering::dose::l2_norm(vector.layers.values().next().unwrap());
    Training { metadata: vector.metadata.training.unwrap(), norm }
}

/// Copies some rows of a CSV file, with its header.
pub fn rows_as_csv(from: &Path, rows: std::ops::Range<usize>, to: &Path) -> PathBuf {
    let mut reader = csv::Reader::from_path(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    let mut writer = csv::Writer::from_path(to).unwrap();
    writer.write_record(reader.headers().unwrap()).unwrap();
    for record in reader.records().skip(rows.start).take(rows.len()) {
        writer.write_record(&record.unwrap()).unwrap();
    }
    writer.flush().unwrap();
    to.to_owned()
}
