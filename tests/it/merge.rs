//! A vector baked into a model against what `transformers` computed with the same vector added by a hook, and models, vectors
//! and directories that are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bipo::model::Model;
use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::layout::Layout;
use bipo::model::weights::Weights;
use bipo::ops::linear::Products;
use bipo::steering::merge::Merge;
use bipo::steering::vector::{Metadata, Positions, SteeringVector};
use bipo::text::spans::Spans;
use bipo::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::cli::{Place, assert_ok, assert_refused, fixture, text};
use crate::common::checkpoint;

fn logits(dir: &Path, ids: &[u32]) -> Tensor {
    steered_logits(dir, ids, None)
}

/// The logits with twice a vector added to the output of a block.
fn steered_logits(dir: &Path, ids: &[u32], vector: Option<(usize, &Vec<f32>)>) -> Tensor {
    let checkpoint = checkpoint(dir);
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    let model = Model::load(&weights, config, DType::F32, &Device::Cpu).unwrap();
    let mut layout = Layout::default();
    layout.push_sequence(ids.len());
    let plan = model.plan(&layout).unwrap();
    let mut x = model.embed(ids).unwrap();
    for block in 0..model.num_blocks() {
        x = model.run(block..block + 1, &x, &plan).unwrap();
        if let Some((_, v)) = vector.filter(|(layer, _)| *layer == block) {
            x = x.broadcast_add(&(Tensor::new(v.as_slice(), &Device::Cpu).unwrap() * 2.0).unwrap()).unwrap();
        }
    }
    model.logits(&x, Products::Fastest).unwrap()
}

/// What `transformers` recorded of a tiny model: its vector and steered layer, the ids, and logits.
struct Recorded {
    vector: SteeringVector,
    ids: Vec<u32>,
    logits: Tensor,
    steered_logits: Tensor,
}

impl Recorded {
    fn of(name: &str) -> Self {
        let path = Path::new(&fixture(name)).join("expected.safetensors");
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let ids = |tensor: &Tensor| -> Vec<u32> {
            tensor.flatten_all().unwrap().to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect()
        };
        let layer = ids(&tensors["steered_layer"])[0] as usize;
        let v = tensors["v"].to_vec1().unwrap();
        Self {
            vector: SteeringVector { layers: [(layer, v)].into(), metadata: Metadata::default() },
            ids: ids(&tensors["input_ids"]),
            logits: tensors.remove("logits").unwrap(),
            steered_logits: tensors.remove("steered_logits").unwrap(),
        }
    }
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Bakes twice the recorded vector, which is what `steered_logits` has.
fn merge(name: &str, dir: &Path) -> Recorded {
    let recorded = Recorded::of(name);
    let merge = Merge::new(&checkpoint(Path::new(&fixture(name))), &recorded.vector, 2.0).unwrap();
    merge.write(dir, |_, _| Ok(())).unwrap();
    recorded
}

#[test]
fn a_merged_model_has_the_logits_that_transformers_has_with_the_vector_added() {
    let place = tempfile::tempdir().unwrap();
    // The last one has biases in its attention, and is written as a Llama.
    for name in
        ["llama", "llama-tied", "llama-bias", "llama-linear", "llama-dynamic", "llama-tied-bf16", "granite", "smollm3", "qwen2"]
    {
        let dir = place.path().join(name);
        let recorded = merge(name, &dir);
        let merged = logits(&dir, &recorded.ids);
        // The bias of the bf16 model is rounded to bf16: 2^-9 of its size.
        let tolerance = if name.ends_with("bf16") { 0.05 } else { 1e-4 };
        let worst = difference(&merged, &recorded.steered_logits);
        assert!(worst < tolerance, "{name}: logits differ by {worst}");
        assert!(difference(&merged, &recorded.logits) > 20.0 * tolerance, "{name}: the vector does nothing");
    }
}

fn tensors(dir: &Path) -> BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)> {
    let Checkpoint::Safetensors { shards, .. } = checkpoint(dir) else { unreachable!() };
    let mut all = BTreeMap::new();
    for shard in shards {
        let bytes = fs::read(shard).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        all.extend(file.iter().map(|(name, t)| (name.to_owned(), (t.dtype(), t.shape().to_vec(), t.data().to_vec()))));
    }
    all
}

#[test]
fn everything_but_one_bias_is_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    for (name, dtype) in [("llama", safetensors::Dtype::F32), ("llama-tied-bf16", safetensors::Dtype::BF16)] {
        let dir = place.path().join(name);
        let recorded = merge(name, &dir);
        let (before, after) = (tensors(Path::new(&fixture(name))), tensors(&dir));
        let layer = recorded.vector.layers.keys().next().unwrap();
        let steered = format!("model.layers.{layer}.mlp.down_proj.bias");
        for (tensor, content) in &after {
            match before.get(tensor) {
                Some(old) => assert!(old == content, "{name}: {tensor} has changed"),
                None => {
                    assert!(
                        tensor.contains(".mlp.") && tensor.ends_with("_proj.bias") && content.0 == dtype,
                        "{name}: {tensor}"
                    );
                    assert_eq!(content.2.iter().any(|byte| *byte != 0), *tensor == steered, "{name}: {tensor}");
                }
            }
        }
        let blocks = before.keys().filter(|tensor| tensor.ends_with("mlp.down_proj.weight")).count();
        assert_eq!(after.len(), before.len() + 3 * blocks, "{name}");
        let json = |dir: &Path| -> Value { serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap() };
        let mut expected = json(Path::new(&fixture(name)));
        expected["mlp_bias"] = true.into();
        assert_eq!(json(&dir), expected);
    }
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let original = fs::read(Path::new(&fixture("llama")).join(file)).unwrap();
        assert_eq!(fs::read(place.path().join("llama").join(file)).unwrap(), original, "{file}");
    }
}

#[test]
fn an_index_names_the_shard_of_every_tensor() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("merged");
    merge("llama-tied-bf16", &dir);
    let index: Value = serde_json::from_slice(&fs::read(dir.join("model.safetensors.index.json")).unwrap()).unwrap();
    let mut sizes = 0;
    let mut names = 0;
    for (name, shard) in index["weight_map"].as_object().unwrap() {
        let bytes = fs::read(dir.join(shard.as_str().unwrap())).unwrap();
        sizes += safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().len();
        names += 1;
    }
    assert_eq!((names, index["metadata"]["total_size"].as_u64().unwrap()), (tensors(&dir).len(), sizes as u64));
}

#[test]
fn an_existing_bias_is_added_to() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("merged");
    let recorded = merge("llama-bias", &dir);
    let (layer, v) = recorded.vector.layers.iter().next().unwrap();
    let name = format!("model.layers.{layer}.mlp.down_proj.bias");
    let (before, after) = (tensors(Path::new(&fixture("llama-bias"))), tensors(&dir));
    let floats = |bytes: &[u8]| -> Vec<f32> { bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
    for ((old, new), v) in floats(&before[&name].2).iter().zip(floats(&after[&name].2)).zip(v) {
        assert!((new - (old + 2.0 * v)).abs() < 1e-6);
    }
    let changed: Vec<&String> = after.keys().filter(|name| after.get(*name) != before.get(*name)).collect();
    assert_eq!(changed, [&name]);
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
}

/// A copy of the tiny Mistral whose configuration is changed.
fn mistral(dir: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    fs::create_dir(dir).unwrap();
    let original = fixture("mistral");
    fs::copy(Path::new(&original).join("model.safetensors"), dir.join("model.safetensors")).unwrap();
    let mut config = config(Path::new(&original));
    change(&mut config);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir.to_owned()
}

#[test]
fn a_mistral_without_a_window_is_written_as_a_llama_that_computes_the_same() {
    let place = tempfile::tempdir().unwrap();
    // What the configuration leaves out are defaults of Mistral, of which Llama has others.
    let original = mistral(&place.path().join("mistral"), |config| {
        config["sliding_window"] = Value::Null;
        let config = config.as_object_mut().unwrap();
        config.retain(|key, _| !["max_position_embeddings", "rope_theta", "tie_word_embeddings"].contains(&key.as_str()));
    });
    let recorded = Recorded::of("mistral");
    let (layer, v) = recorded.vector.layers.iter().next().unwrap();
    let dir = place.path().join("merged");
    Merge::new(&checkpoint(&original), &recorded.vector, 2.0).unwrap().write(&dir, |_, _| Ok(())).unwrap();
    let steered = steered_logits(&original, &recorded.ids, Some((*layer, v)));
    let worst = difference(&logits(&dir, &recorded.ids), &steered);
    assert!(worst < 1e-4, "logits differ by {worst}");
    assert!(difference(&steered, &logits(&original, &recorded.ids)) > 1e-2);
    let mut expected = config(&original);
    expected.as_object_mut().unwrap().shift_remove("sliding_window");
    for (key, value) in [
        ("architectures", serde_json::json!(["LlamaForCausalLM"])),
        ("model_type", "llama".into()),
        ("attention_bias", false.into()),
        ("mlp_bias", true.into()),
        ("head_dim", 6.into()),
        ("max_position_embeddings", 131_072.into()),
        ("rope_theta", 10_000.0.into()),
        ("tie_word_embeddings", false.into()),
    ] {
        expected[key] = value;
    }
    assert_eq!(config(&dir), expected);
}

#[test]
fn a_qwen2_written_as_a_llama_has_a_bias_of_zero_at_the_output_of_its_attention() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("merged");
    merge("qwen2", &dir);
    let written = config(&dir);
    assert_eq!((&written["model_type"], &written["attention_bias"]), (&"llama".into(), &true.into()));
    assert!(["sliding_window", "use_sliding_window", "max_window_layers"].iter().all(|key| written.get(key).is_none()));
    let (before, after) = (tensors(Path::new(&fixture("qwen2"))), tensors(&dir));
    let outputs: Vec<&String> = after.keys().filter(|name| name.ends_with("self_attn.o_proj.bias")).collect();
    assert_eq!(outputs.len(), 2);
    assert!(outputs.iter().all(|name| after[*name].2.iter().all(|byte| *byte == 0) && after[*name].1 == [24]));
    assert!(before.iter().all(|(name, content)| after[name] == *content));
}

#[test]
fn an_architecture_without_the_bias_is_refused_and_other_engines_are_pointed_to() {
    let place = tempfile::tempdir().unwrap();
    let gelu = mistral(&place.path().join("gelu"), |config| {
        config["sliding_window"] = Value::Null;
        config["hidden_act"] = "gelu_pytorch_tanh".into();
    });
    let fixture = |name: &str| PathBuf::from(fixture(name));
    for (name, model, reason) in [
        ("qwen3", fixture("qwen3"), "the MLP of model type `qwen3` has no bias"),
        ("gemma2", fixture("gemma2"), "the MLP of model type `gemma2` has no bias"),
        ("olmo2", fixture("olmo2"), "the MLP of model type `olmo2` has no bias"),
        ("mixtral", fixture("mixtral"), "the MLP of model type `mixtral` has no bias"),
        ("mistral", fixture("mistral"), "no sliding window, but here one of 5 tokens is active"),
        ("mistral", gelu, "this model is built in another way than Llama"),
    ] {
        let recorded = Recorded::of(name);
        let error = Merge::new(&checkpoint(&model), &recorded.vector, 1.0).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains("an export to vllm-lens, easysteer, "), "{text}");
    }
    let gguf = Checkpoint::Gguf { path: "some.gguf".into(), tokenizer: None };
    let text = Merge::new(&gguf, &Recorded::of("llama").vector, 1.0).unwrap_err().to_string();
    assert!(text.contains("some.gguf: a GGUF file is not rewritten") && text.contains("an export to "), "{text}");
}

#[test]
fn a_vector_that_a_bias_cannot_express_is_refused() {
    let llama = checkpoint(Path::new(&fixture("llama")));
    let refusal = |change: &dyn Fn(&mut SteeringVector), magnitude: f64| -> Error {
        let mut vector = Recorded::of("llama").vector;
        change(&mut vector);
        Merge::new(&llama, &vector, magnitude).unwrap_err()
    };
    let text = |error: Error| error.to_string();
    assert!(text(refusal(&|v| v.metadata.positions = Positions::Response, 1.0)).contains("response's tokens alone"));
    assert!(text(refusal(&|v| v.metadata.spans = Some(Spans::User), 1.0)).contains("the words of the user's messages alone"));
    assert!(
        text(refusal(&|v| v.layers = [(3, vec![1.0; 32])].into(), 1.0)).contains("layer 3 out of range: model has 3 layers")
    );
    assert!(text(refusal(&|v| v.layers = [(1, vec![1.0; 31])].into(), 1.0)).contains("hidden size 31"));
    let error = refusal(&|v| v.layers = [(1, vec![1.0; 32])].into(), 1e39);
    assert_eq!(error.exit_code(), 1);
    assert!(text(error).contains("layer 1: the vector times the magnitude is not finite in F32"));
}

#[test]
fn a_stopped_copy_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let merge = Merge::new(&checkpoint(Path::new(&fixture("llama"))), &Recorded::of("llama").vector, 1.0).unwrap();
    let mut calls = 0;
    let stop = |done: u64, total: u64| -> Result<()> {
        calls += 1;
        assert!(done <= total);
        if calls == 3 { Err(Error::Interrupted) } else { Ok(()) }
    };
    assert!(matches!(merge.write(&place.path().join("merged"), stop), Err(Error::Interrupted)));
    assert_eq!(calls, 3);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn the_program_writes_a_model_that_speaks_as_the_original_steered() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let (model, vector) = (fixture("llama"), "out/steering_vector.safetensors");
    fs::create_dir(place.path("merged")).unwrap();
    let args = ["merge", "--model", &model, "--vector", vector, "--magnitude", "-150.5", "-o", "merged", "--json"];
    let output = place.bipo(&args);
    assert_ok(&output);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["schema_version"], &result["layers"]), (&1.into(), &serde_json::json!([1])));
    let ids = |model: &str, magnitude: &str| -> Value {
        let args = ["steer", "--model", model, "--vector", vector, "--magnitudes", magnitude];
        let output = place.bipo(&[&args[..], &["--prompt", "Hello", "--max-new-tokens", "12", "--json"]].concat());
        assert_ok(&output);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["results"][0]["token_ids"].clone()
    };
    assert_eq!(ids("merged", "0"), ids(&model, "-150.5"));
    assert_ne!(ids("merged", "0"), ids(&model, "0"));
    // A second time, into the directory that is now full.
    let before = fs::read(place.path("merged/model.safetensors")).unwrap();
    assert_refused(&place.bipo(&args), &args, "merged is not empty");
    assert_eq!(fs::read(place.path("merged/model.safetensors")).unwrap(), before);
    let hidden = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".bipo");
    assert!(!fs::read_dir(place.path("")).unwrap().any(|entry| hidden(entry.unwrap())));
}

#[test]
fn wrong_uses_of_merge_are_one_line_and_write_nothing() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    assert_ok(&place.train("response", &["--positions", "response"]));
    fs::write(place.path("model.gguf"), b"GGUF").unwrap();
    let llama = fixture("llama");
    let (all, response) = ("out/steering_vector.safetensors", "response/steering_vector.safetensors");
    let cases: [(&str, &str, &[&str], &str); 6] = [
        (&fixture("mistral"), all, &[], "tokenizer.json"),
        ("model.gguf", all, &[], "GGUF file is not rewritten"),
        (&llama, response, &[], "only a vector for all positions"),
        (&llama, "nowhere.safetensors", &[], "nowhere.safetensors"),
        (&llama, all, &["--layer", "9"], "layer 9 out of range"),
        (&llama, all, &["--magnitude", "nan"], "expected a finite number"),
    ];
    for (model, vector, more, expected) in cases {
        let args = [&["merge", "--model", model, "--vector", vector, "-o", "merged"][..], more].concat();
        let output = place.bipo(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
        assert!(!place.path("merged").exists() && output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn the_printed_check_tells_a_program_that_reads_the_bias_from_one_that_drops_it() {
    let place = Place::new();
    fs::write(place.path("v.safetensors"), crate::bytes::vector(32)).unwrap();
    let model = fixture("llama");
    let merge = ["merge", "--model", &model, "--vector", "v.safetensors", "--magnitude", "2", "--output-dir", "my model"];
    let output = place.bipo(&merge);
    assert_ok(&output);
    let said = text(&output.stdout);
    let check = said.lines().find_map(|line| line.trim().strip_prefix("bipo ")).unwrap();
    let steered = |line: &str| -> Vec<Value> {
        let shell = format!("'{}' {line} --json --quiet", env!("CARGO_BIN_EXE_bipo"));
        let output = std::process::Command::new("sh").args(["-c", &shell]).current_dir(place.path("")).output().unwrap();
        assert_ok(&output);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value["results"].as_array().unwrap().iter().map(|result| result["token_ids"].clone()).collect()
    };
    let original = check.replace("'my model'", &model).replace("--magnitudes=-2,0", "--magnitudes=0,2");
    let texts = steered(check);
    assert_eq!(texts, steered(&original));
    assert_ne!(texts[0], texts[1]);
}
