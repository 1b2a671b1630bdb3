//! `bipo convert` and vectors of other models in `bipo steer`: what is written, said and refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bipo::steering::vector::{Metadata, Positions, SteeringVector};
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use serde_json::Value;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).to_str().unwrap().to_owned()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn bipo(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
        command.args(args).current_dir(self.0.path()).env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
        command.output().unwrap()
    }

    fn convert(&self, args: &[&str]) -> (Value, String) {
        let output = self.bipo(&[&["convert", "--json"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        (serde_json::from_slice(&output.stdout).unwrap(), text(&output.stderr))
    }

    fn refused(&self, args: &[&str], expected: &str) {
        let output = self.bipo(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{args:?}: {stderr}");
    }

    /// A vector of the tiny model's hidden size.
    fn vector(&self, name: &str, layers: &[usize], metadata: Metadata) -> SteeringVector {
        let v = |layer: usize| (0..32).map(|i| ((7 * i + layer) % 11) as f32 - 5.0).collect();
        let vector = SteeringVector { layers: layers.iter().map(|layer| (*layer, v(*layer))).collect(), metadata };
        vector.write(&self.path(name)).unwrap();
        vector
    }

    fn read(&self, name: &str) -> SteeringVector {
        SteeringVector::read(&self.path(name), None).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn base(name: &str, num_hidden_layers: usize) -> Metadata {
    Metadata {
        base_model: Some(name.into()),
        model_type: Some("llama".into()),
        num_hidden_layers: Some(num_hidden_layers),
        ..Metadata::default()
    }
}

#[test]
fn a_vector_goes_through_every_format_and_comes_back() {
    let place = Place::new();
    let original = place.vector("v.safetensors", &[2], base("llama", 3));
    let formats = ["gguf", "json", "svec", "npy", "pt"];
    for format in formats {
        let file = format!("v.{format}");
        let (report, stderr) = place.convert(&["v.safetensors", &file]);
        assert_eq!(
            (&report["format"], &report["hidden_size"], &report["schema_version"]),
            (&format.into(), &32.into(), &1.into())
        );
        assert_eq!(report["layers"][0]["layer"], 2);
        let norm: f64 = original.layers[&2].iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        assert!((report["layers"][0]["norm"].as_f64().unwrap() - norm).abs() < 1e-9);
        let back = format!("{format}.safetensors");
        let bare = ["npy", "pt"].contains(&format);
        place.convert(&[&[file.as_str(), &back][..], if bare { &["--layer", "2"] } else { &[] }].concat());
        assert_eq!(place.read(&back).layers, original.layers, "{format}");
        let lost: Vec<&str> = report["lost"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        match format {
            "gguf" | "json" => {
                assert!(lost.is_empty() && stderr.is_empty(), "{format}: {lost:?} {stderr}");
                assert_eq!(place.read(&back), original, "{format}");
            }
            "svec" => assert_eq!(lost, ["base_model", "num_hidden_layers"]),
            _ => {
                assert_eq!(lost, ["layer", "model_type", "base_model", "num_hidden_layers"]);
                assert!(
                    stderr.contains("cannot hold layer, model_type")
                        && stderr.contains(": write .safetensors or .json to keep all, or read it with --layer 2"),
                    "{stderr}"
                );
            }
        }
    }
}

#[test]
fn text_goes_to_stdout_warnings_to_stderr_and_quiet_silences_them() {
    let place = Place::new();
    place.vector("v.safetensors", &[1, 2], base("llama", 3));
    let output = place.bipo(&["convert", "v.safetensors", "v.svec"]);
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with("v.svec\nsvec  hidden size 32\nlayer 1  |v| "), "{stdout}");
    assert_eq!(stdout.lines().count(), 4);
    assert!(text(&output.stderr).contains("warning: v.svec: svec cannot hold base_model, num_hidden_layers"));
    let quiet = place.bipo(&["convert", "-q", "v.safetensors", "w.svec"]);
    assert!(quiet.status.success() && quiet.stderr.is_empty());
    let verbose = place.bipo(&["convert", "-v", "v.safetensors:2", "x.svec"]);
    assert!(text(&verbose.stderr).contains("v.safetensors: safetensors, layers [1, 2]"), "{}", text(&verbose.stderr));
    assert_eq!(fs::read(place.path("v.svec")).unwrap(), fs::read(place.path("w.svec")).unwrap());
}

#[test]
fn inputs_are_added_up_by_weight_and_recorded() {
    let place = Place::new();
    let a = place.vector("a.safetensors", &[1], base("llama", 3));
    let b = place.vector("b.safetensors", &[1, 2], base("fine-tune", 3));
    let (report, _) = place.convert(&["a.safetensors:1.5", "b.safetensors:-0.5", "c.safetensors"]);
    let c = place.read("c.safetensors");
    let at_1: Vec<f32> = a.layers[&1].iter().zip(&b.layers[&1]).map(|(a, b)| 1.5 * a - 0.5 * b).collect();
    let at_2: Vec<f32> = b.layers[&2].iter().map(|b| -0.5 * b).collect();
    assert_eq!(c.layers, BTreeMap::from([(1, at_1), (2, at_2)]));
    let inputs: Vec<(&str, f64)> = report["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| (input["file"].as_str().unwrap(), input["weight"].as_f64().unwrap()))
        .collect();
    assert_eq!(inputs, [("a.safetensors", 1.5), ("b.safetensors", -0.5)]);
    let combination = c.metadata.combination.unwrap();
    let sha256 = |name: &str| {
        use sha2::Digest;
        let hash = sha2::Sha256::digest(fs::read(place.path(name)).unwrap());
        hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(combination.parts[1].file, "b.safetensors");
    assert_eq!(combination.parts[1].sha256, sha256("b.safetensors"));
    assert_eq!(combination.parts[1].base_model.as_deref(), Some("fine-tune"));
    assert_eq!((c.metadata.base_model, c.metadata.num_hidden_layers), (None, Some(3)));
    let inspected = place.bipo(&["inspect", "c.safetensors"]);
    let text = String::from_utf8(inspected.stdout).unwrap();
    assert!(text.contains("made of     a.safetensors × 1.5, b.safetensors × -0.5\n"), "{text}");
    // The record outlives another format.
    place.convert(&["c.safetensors", "c.gguf"]);
    assert_eq!(place.read("c.gguf").metadata.combination.unwrap(), combination);
}

#[test]
fn normalize_and_orthogonal_to_have_their_effect() {
    let place = Place::new();
    place.vector("a.safetensors", &[1], Metadata::default());
    let b = SteeringVector { layers: [(1, vec![2.0; 32])].into(), metadata: Metadata::default() };
    b.write(&place.path("b.safetensors")).unwrap();
    place.convert(&["a.safetensors:3", "unit.safetensors", "--normalize"]);
    assert!((place.read("unit.safetensors").norm() - 3.0).abs() < 1e-6);
    // Flags may stand anywhere, before the output too.
    place.convert(&["a.safetensors", "--orthogonal-to", "b.safetensors", "rest.safetensors"]);
    let rest = place.read("rest.safetensors");
    let sum: f64 = rest.layers[&1].iter().map(|x| f64::from(*x)).sum();
    assert!(sum.abs() < 1e-5 && rest.norm() > 1.0, "{sum}");
    place.refused(
        &["convert", "b.safetensors", "x.safetensors", "--orthogonal-to", "b.safetensors"],
        "nothing is left of layer 1",
    );
}

#[test]
fn layer_is_for_the_input_that_does_not_say_it() {
    let place = Place::new();
    let one = fixture("vectors/bare.pt");
    let several = fixture("vectors/repeng.gguf");
    place.convert(&[&one, &several, "mixed.safetensors", "--layer", "7"]);
    assert_eq!(place.read("mixed.safetensors").layers.keys().collect::<Vec<_>>(), [&5, &7, &12]);
    let (_, stderr) = place.convert(&[&fixture("vectors/dict.pt"), "moved.safetensors", "--layer", "7"]);
    assert!(stderr.contains("moved to layer 7"), "{stderr}");
    assert_eq!(place.read("moved.safetensors").layers.keys().collect::<Vec<_>>(), [&7]);
    place.refused(&["convert", &one, "x.safetensors"], "does not say which layer it steers: give --layer");
    place.refused(&["convert", &several, "x.safetensors", "--layer", "7"], "--layer cannot move several");
    place.refused(&["convert", &several, &several, "x.npy", "--layer", "7"], "every input says its layer already");
}

#[test]
fn a_message_tells_files_of_one_name_in_two_directories_apart() {
    let place = Place::new();
    for (folder, positions) in [("one", Positions::All), ("two", Positions::Last)] {
        fs::create_dir(place.path(folder)).unwrap();
        place.vector(&format!("{folder}/v.safetensors"), &[1], Metadata { positions, ..Metadata::default() });
    }
    let expected = "one/v.safetensors is for positions all and no spans, two/v.safetensors for positions last";
    place.refused(&["convert", "one/v.safetensors", "two/v.safetensors", "x.npy"], expected);
}

#[test]
fn a_refusal_writes_nothing_and_existing_files_stay() {
    let place = Place::new();
    place.vector("v.safetensors", &[0], base("llama", 3));
    place.vector("w.safetensors", &[0, 1], Metadata::default());
    fs::write(place.path("broken.json"), "{\"format\": \"bipo\",\n \"layers\": 3}").unwrap();
    let before = (place.names(), fs::read(place.path("w.safetensors")).unwrap());
    for (args, expected) in [
        (&["v.safetensors", "w.safetensors"][..], "w.safetensors exists"),
        (&["v.safetensors", "v.safetensors"], "v.safetensors exists"),
        (&["v.safetensors", "x.gguf"], "x.gguf: layer 0 cannot be expressed"),
        (&["w.safetensors", "x.npy"], "x.npy: the format holds one vector"),
        (&["v.safetensors", "x.onnx"], "must end in .safetensors"),
        (&["v.safetensors", "x.safetensors", "--layer", "3"], "layer 3 out of range"),
        (&["nowhere.pt", "x.npy"], "nowhere.pt"),
        (&["v.safetensors:much", "x.npy"], "\"much\" is not a factor"),
        (&["v.safetensors:nan", "x.npy"], "\"nan\" is not a factor"),
        (&["broken.json", "x.npy"], "broken.json: not a steering vector in JSON: invalid type"),
        (&["v.safetensors", "x.npy", "--orthogonal-to", "nowhere.npy"], "nowhere.npy"),
        (&["v.safetensors:1e38", "v.safetensors:3e38", "x.npy"], "not finite"),
        (&["v.safetensors"], "expected the files to read and then the file to write"),
        (&[], "required"),
    ] {
        place.refused(&[&["convert"], args].concat(), expected);
        assert_eq!(before, (place.names(), fs::read(place.path("w.safetensors")).unwrap()), "{args:?}");
    }
    place.convert(&["v.safetensors", "w.safetensors", "--force"]);
    assert_eq!(place.read("w.safetensors"), place.read("v.safetensors"));
    place.refused(&["convert", "v.safetensors", "no/such/folder/x.npy"], "cannot write no/such/folder/x.npy");
}

#[test]
fn a_vector_is_used_by_the_operation_that_its_file_records_unless_the_user_says_otherwise() {
    let place = Place::new();
    place.vector("v.safetensors", &[1], base("llama", 3));
    let (_, warned) = place.convert(&["v.safetensors", "--operation", "ablate", "v.gguf"]);
    assert!(warned.contains("v.gguf: llama.cpp adds it all the same") && warned.lines().count() == 1, "{warned}");
    let (_, quiet) = place.convert(&["v.safetensors", "--operation", "ablate", "ablated.safetensors"]);
    assert!(quiet.is_empty(), "{quiet}");
    assert!(place.convert(&["v.gguf", "same.safetensors"]).1.is_empty());
    assert_eq!(fs::read(place.path("same.safetensors")).unwrap(), fs::read(place.path("ablated.safetensors")).unwrap());
    let (_, lost) = place.convert(&["v.gguf", "v.npy"]);
    assert!(lost.contains("cannot hold layer, model_type, base_model, num_hidden_layers, operation"), "{lost}");
    assert!(lost.contains("whoever reads it adds it"), "{lost}");
    let model = fixture("llama");
    let steer = |flags: &[&str]| -> Vec<Value> {
        let args = ["steer", "--model", &model, "--prompt", "What is it?", "--max-new-tokens", "12", "--json", "--quiet"];
        let output = place.bipo(&[&args[..], flags].concat());
        assert!(output.status.success(), "{flags:?}: {}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["results"].as_array().unwrap().clone()
    };
    let said = steer(&["--vector", "v.safetensors", "--operation", "ablate"]);
    assert_eq!((said.len(), &said[1]["magnitude"], &said[1]["operation"]), (2, &1.0.into(), &"ablate".into()));
    assert_ne!(said[0]["token_ids"], said[1]["token_ids"]);
    assert_eq!(steer(&["--vector", "ablated.safetensors"]), said);
    assert_eq!(steer(&["--vector", "v.gguf"]), said);
    let added = ["--vector", "v.gguf", "--operation", "add"];
    assert_eq!(steer(&added), steer(&["--vector", "v.safetensors"]));
    let answer = |flags: &[&str]| {
        let args = [&["chat", "--model", &model, "--max-new-tokens", "12", "--json", "--quiet"], flags].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
        command.args(args).current_dir(place.0.path()).env("HF_HUB_OFFLINE", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"What is it?\n").unwrap();
        serde_json::from_slice::<Value>(&child.wait_with_output().unwrap().stdout).unwrap()["content"].clone()
    };
    assert_eq!(answer(&["--vector", "v.gguf"]), said[1]["text"]);
    assert_ne!(answer(&["--vector", "v.gguf", "--operation", "add"]), said[1]["text"]);
    let eval = ["eval", "--model", &model, "--vector", "v.gguf", "--skip", "text", "--prompt", "What is it?", "--json"];
    let output = place.bipo(&[&eval[..], &["--max-new-tokens", "12", "--bootstrap", "10", "--quiet"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["settings"]["operation"], "ablate");
    let texts: Vec<&Value> = report["generations"].as_array().unwrap().iter().map(|text| &text["text"]).collect();
    assert_eq!(texts, [&said[0]["text"], &said[1]["text"]]);
    for (args, expected) in [
        (&["calibrate", "--model", &model, "--vector", "v.gguf"][..], "calibrate is for a vector that is added"),
        (&["merge", "--model", &model, "--vector", "v.gguf", "-o", "merged"], "a bias only adds"),
        (&["convert", "v.gguf", "v.safetensors", "sum.json"], "operation ablate"),
    ] {
        place.refused(args, expected);
    }
    let shown = text(&place.bipo(&["inspect", "v.gguf"]).stdout);
    assert!(shown.contains("taken from  "), "{shown}");
    assert!(text(&place.bipo(&["inspect", "v.safetensors"]).stdout).contains("added to"));
}

#[test]
fn a_zero_result_is_written_with_a_warning() {
    let place = Place::new();
    place.vector("v.safetensors", &[1], Metadata::default());
    let (_, stderr) = place.convert(&["v.safetensors", "v.safetensors:-1", "zero.safetensors"]);
    assert!(stderr.contains("the vector is zero and steers nothing: choose other inputs or weights"), "{stderr}");
    assert_eq!(place.read("zero.safetensors").norm(), 0.0);
}

/// Token ids and stderr of a short greedy answer.
fn steer(place: &Place, vectors: &[&str]) -> (Value, String) {
    let model = fixture("llama");
    let mut args =
        vec!["steer", "--model", &model, "--json", "--max-new-tokens", "8", "--prompt", "Hello", "--magnitudes", "1"];
    args.extend(vectors.iter().flat_map(|vector| ["--vector", vector]));
    let output = place.bipo(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    (value["results"][0]["token_ids"].clone(), text(&output.stderr))
}

#[test]
fn what_convert_adds_up_steers_as_repeated_vectors_do_and_in_any_format() {
    let place = Place::new();
    place.vector("a.safetensors", &[1], Metadata::default());
    place.vector("b.safetensors", &[0, 2], Metadata::default());
    place.convert(&["a.safetensors:1.5", "b.safetensors:-0.5", "c.json"]);
    let (together, _) = steer(&place, &["c.json"]);
    assert_eq!(together, steer(&place, &["a.safetensors:1.5", "b.safetensors:-0.5"]).0);
    assert_ne!(together, steer(&place, &["a.safetensors:0"]).0);
    place.convert(&["a.safetensors", "a.gguf"]);
    assert_eq!(steer(&place, &["a.gguf"]).0, steer(&place, &["a.safetensors"]).0);
}

#[test]
fn a_vector_of_another_model_of_the_same_shape_steers_with_a_warning() {
    let place = Place::new();
    place.vector("own.safetensors", &[1], base("llama", 3));
    place.vector("other.safetensors", &[1], base("owner/fine-tune", 3));
    let (ids, stderr) = steer(&place, &["own.safetensors"]);
    assert!(!stderr.contains("warning: the vector was trained"), "{stderr}");
    let (same, stderr) = steer(&place, &["other.safetensors"]);
    assert_eq!(same, ids);
    assert!(stderr.contains("warning: the vector was trained on owner/fine-tune, the model is llama"), "{stderr}");
    // A part of a sum is named too.
    place.convert(&["own.safetensors", "other.safetensors", "sum.safetensors"]);
    assert!(steer(&place, &["sum.safetensors"]).1.contains("trained on owner/fine-tune,"));
    assert!(steer(&place, &["own.safetensors", "other.safetensors"]).1.contains("trained on owner/fine-tune,"));
}

#[test]
fn a_vector_of_a_model_of_another_depth_needs_a_layer() {
    let place = Place::new();
    place.vector("deep.safetensors", &[1], base("owner/deep", 5));
    let model = fixture("llama");
    let args = ["steer", "--model", &model, "--prompt", "a", "--max-new-tokens", "1", "--vector", "deep.safetensors"];
    place.refused(&args, "for a model of 5 layers (owner/deep), but this one has 3: say with --layer");
    let output = place.bipo(&[&args[..], &["--layer", "1"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    place.refused(&[&args[..], &["--layer", "3"]].concat(), "layer 3 out of range: model has 3 layers");
}

/// PyTorch wrote it as it did the authors' vectors: a bare f32 tensor.
#[test]
fn a_bare_tensor_keeps_its_numbers_in_every_format() {
    let place = Place::new();
    let path = fixture("vectors/bare.pt");
    for format in ["safetensors", "gguf", "json", "svec", "npy", "pt"] {
        let file = format!("v.{format}");
        place.convert(&[&path, &file, "--layer", "13"]);
        let layers = SteeringVector::read(&place.path(&file), Some(13)).unwrap().layers;
        assert_eq!(layers, BTreeMap::from([(13, vec![1.0, -2.0, 0.5, 3.0])]), "{format}");
    }
}

#[test]
fn a_vector_for_another_family_of_models_is_added_with_a_warning() {
    let place = Place::new();
    place.vector("v.safetensors", &[1], Metadata { model_type: Some("qwen2".into()), ..Metadata::default() });
    place.convert(&["v.safetensors", "v.gguf"]);
    let model = fixture("llama");
    let output = place.bipo(&[
        "steer",
        "--model",
        &model,
        "--vector",
        "v.gguf",
        "--prompt",
        "Hi",
        "--magnitudes",
        "1",
        "--max-new-tokens",
        "1",
    ]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("warning: the vector is for models of type qwen2, the model is of type llama"), "{stderr}");
}

#[test]
fn every_command_that_reads_a_control_vector_says_its_keys_that_are_not_known() {
    let place = Place::new();
    let v = Tensor::arange(0f32, 32.0, &Device::Cpu).unwrap();
    let v = QTensor::quantize(&v, GgmlDType::F32).unwrap();
    let (kind, window) = (gguf_file::Value::String("controlvector".into()), gguf_file::Value::U32(4));
    let keys = [("general.architecture", &kind), ("controlvector.window", &window)];
    gguf_file::write(&mut fs::File::create(place.path("v.gguf")).unwrap(), &keys, &[("direction.1", &v)]).unwrap();
    fs::write(place.path("pairs.csv"), "prompt,chosen,rejected\nHello,yes,no\n").unwrap();
    let model = fixture("llama");
    let steer = ["steer", "--model", &model, "--vector", "v.gguf", "--prompt", "Hi", "--max-new-tokens", "1"];
    let train = ["train", "--model", &model, "--dataset", "pairs.csv", "--init", "v.gguf", "--max-steps", "1"];
    // The server ends before it serves.
    #[cfg(feature = "serve")]
    let serve = ["serve", "--model", &model, "--vector", "v=v.gguf", "--eval", "nowhere.json"];
    let commands: &[(&[&str], &str)] = &[
        (&["convert", "v.gguf", "v.json"], "v.gguf"),
        (&steer, "v.gguf"),
        (&train, "--init"),
        #[cfg(feature = "serve")]
        (&serve, "v"),
    ];
    for (args, name) in commands {
        let stderr = text(&place.bipo(args).stderr);
        let warning = format!("warning: {name}: bipo does not know controlvector.window: ");
        assert_eq!(stderr.matches(&warning).count(), 1, "{args:?}: {stderr}");
    }
}
