//! What texts were generated from: enough to generate them again, or to see that they are another model's or vector's.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use bipo::generate::GenerateOptions;
use bipo::hub::resolve::content_hash;
use bipo::session::Session;
use bipo::steering::Operation;
use bipo::steering::condition::{Condition, When};
use bipo::steering::vector::{Positions, Summand};
use bipo::text::spans::Spans;
use serde::Serialize;
use serde_json::{Value, json};

use super::page::command_line;
use super::session;
use crate::args::{ModelArgs, condition_and_threshold};

/// The run that generated some texts: names, and paths of this machine in the command alone.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    command: String,
    bipo_version: &'static str,
    model: ModelRecord,
    template: Value,
    system: Option<String>,
    vectors: Vec<VectorPart>,
    positions: Positions,
    spans: Option<Spans>,
    operation: Operation,
    /// The condition, where only some prompts are steered.
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<Value>,
    magnitudes: Vec<f32>,
    decoding: DecodingRecord,
}

#[derive(Debug, Clone, Serialize)]
struct ModelRecord {
    name: String,
    dtype: String,
    device: &'static str,
    weights: &'static str,
    files: Vec<ModelFile>,
}

#[derive(Debug, Clone, Serialize)]
struct ModelFile {
    name: String,
    /// SHA-256 of the file; none where it could not be read again.
    sha256: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct VectorPart {
    file: String,
    sha256: String,
    layers: Vec<usize>,
    scale: f32,
    norm: f64,
}

/// How texts were decoded. Where `temperature` is 0, the likeliest token is taken, and what concerns sampling has no effect.
#[derive(Debug, Clone, Serialize)]
struct DecodingRecord {
    max_new_tokens: usize,
    temperature: f64,
    top_p: Option<f64>,
    top_k: Option<usize>,
    repeat_penalty: f32,
    seed: u64,
    /// Whether activations were f32 where the weights are quantised.
    exact: bool,
}

/// A provenance whose model is being hashed, in a thread of its own: a large model takes seconds.
pub struct Tracing {
    provenance: Provenance,
    /// The thread that hashes the model; none once it is done.
    hashing: Option<JoinHandle<Vec<ModelFile>>>,
}

/// What is recorded of vectors that are added up.
pub fn parts(inputs: &[Summand]) -> Vec<VectorPart> {
    let part = |input: &Summand| VectorPart {
        file: file_name(Path::new(&input.file)),
        sha256: input.sha256.clone(),
        layers: input.vector.layers.keys().copied().collect(),
        scale: input.weight,
        norm: input.vector.norm(),
    };
    inputs.iter().map(part).collect()
}

impl Tracing {
    /// Begins to hash the files of the model.
    pub fn begin(
        args: &ModelArgs,
        opened: &Session,
        vectors: Vec<VectorPart>,
        spans: Option<Spans>,
        when: Option<(&str, &When)>,
        magnitudes: &[f32],
        options: &GenerateOptions,
    ) -> Self {
        let files = opened.read_from();
        let hash = |path: &PathBuf| ModelFile { name: file_name(path), sha256: content_hash(path).ok() };
        let hashing = std::thread::spawn(move || files.iter().map(hash).collect());
        let named = Path::new(&args.chat.template);
        let mut template = json!({"name": opened.encoder.template().name()});
        if named.is_file() {
            template["sha256"] = json!(content_hash(named).ok());
        }
        session::add_template_settings(&mut template, args);
        let GenerateOptions { max_new_tokens, temperature, top_p, top_k, repeat_penalty, seed, .. } = *options;
        let provenance = Provenance {
            command: command_line(),
            bipo_version: env!("CARGO_PKG_VERSION"),
            model: ModelRecord {
                name: opened.files.name.clone(),
                dtype: opened.placement.dtype_name(),
                device: opened.placement.device_kind(),
                weights: opened.placement.weights_name(),
                files: Vec::new(),
            },
            template,
            system: args.chat.system.clone(),
            vectors,
            positions: options.positions,
            spans,
            operation: options.operation,
            when: when.map(|(file, when)| described(file, when)),
            magnitudes: magnitudes.to_vec(),
            decoding: DecodingRecord { max_new_tokens, temperature, top_p, top_k, repeat_penalty, seed, exact: true },
        };
        Self { provenance, hashing: Some(hashing) }
    }

    /// Records whether activations stay f32.
    pub fn exact(mut self, exact: bool) -> Self {
        self.provenance.decoding.exact = exact;
        self
    }

    /// Waits for the hashes.
    pub fn get(&mut self) -> &Provenance {
        if let Some(hashing) = self.hashing.take() {
            // A thread that panicked leaves a model without files, which says that none was hashed.
            self.provenance.model.files = hashing.join().unwrap_or_default();
        }
        &self.provenance
    }
}

/// A condition by its file, `FILE[:>θ]` as the user wrote it, and what it compares.
pub fn described(file: &str, when: &When) -> Value {
    let path = condition_and_threshold(file).map_or_else(|_| PathBuf::from(file), |(path, _)| path);
    let Condition { reading, comparison, threshold, .. } = when.condition();
    json!({
        "file": file_name(&path), "sha256": content_hash(&path).ok(), "layer": when.layer(),
        "reading": reading, "comparison": comparison, "threshold": threshold,
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
