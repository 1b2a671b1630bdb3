//! What several test modules share: the real small model, the recorded numbers, random tensors.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bipo::generate::GenerateOptions;
use bipo::model::Model;
use bipo::model::checkpoint::Checkpoint;
use bipo::session::{Demand, Session, SessionOptions, WeightsChoice};
use bipo::train::batch::{Batch, UpperPass};
use bipo::train::objective::{Objective, PairLogProbs, PairReference};
use candle_core::Tensor;
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

/// Slopes of `a`·log p(chosen) + `b`·log p(rejected), summed over the pairs of a pass, from those of two objectives: the loss of `Lm`
/// with one token falls by 1 with log p(chosen), that of `Bipo` with β = 2 at margin 0 with log p(chosen) − log p(rejected).
pub fn slopes_of(batch: &Batch, pass: &UpperPass, [a, b]: [f64; 2]) -> Tensor {
    let reference = |log_probs: &PairLogProbs| PairReference { log_probs: *log_probs, tokens: [1; 2] };
    let references: Vec<PairReference> = batch.log_probs(pass).unwrap().iter().map(reference).collect();
    let slopes = |objective, factor: f64| {
        (batch.slopes(pass, objective, 1.0, &references).unwrap() * (-factor * references.len() as f64)).unwrap()
    };
    (slopes(Objective::Lm { beta: 1.0 }, a + b) + slopes(Objective::Bipo { beta: 2.0 }, -b)).unwrap()
}

/// The files of `src`: the path below it, with `/` between its parts, and the text of each.
pub fn sources() -> Vec<(String, String)> {
    sources_in("src")
}

/// The Rust files of a folder of the repository, each with its path from there.
pub fn sources_in(folder: &str) -> Vec<(String, String)> {
    fn collect(dir: &Path, below: &str, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                collect(&path, &format!("{name}/"), found);
            } else if name.ends_with(".rs") {
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut found);
    found
}

/// Where the real small model is: `BIPO_SMOLLM2`, or bipo's cache directory.
pub fn smollm2_path() -> PathBuf {
    let cached = || bipo::hub::cache_dir::cache_dir().unwrap().join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let path = std::env::var_os("BIPO_SMOLLM2").map_or_else(cached, PathBuf::from);
    assert!(path.is_file(), "{} is not there: run scripts/fetch-smollm2.sh first", path.display());
    path
}

/// SmolLM2-135M-Instruct on the CPU, dense.
pub fn smollm2_options() -> SessionOptions {
    let model = smollm2_path().to_str().unwrap().to_owned();
    SessionOptions { model, device: "cpu".into(), weights: WeightsChoice::Dense, offline: true, ..Default::default() }
}

static SMOLLM2: LazyLock<Model> = LazyLock::new(|| {
    let session = Session::open(smollm2_options()).unwrap();
    session.load(&Demand::default()).unwrap().model
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

/// The checkpoint of a folder with safetensors whose names begin with `model`.
pub fn checkpoint(dir: &Path) -> Checkpoint {
    let is_shard = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("model") && name.ends_with(".safetensors")
    };
    let mut shards: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(is_shard).collect();
    shards.sort();
    Checkpoint::Safetensors {
        config: dir.join("config.json"),
        shards,
        tokenizer: dir.join("tokenizer.json"),
        tokenizer_config: None,
        generation_config: None,
        chat_template: None,
    }
}
