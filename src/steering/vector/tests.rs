//! Tests of vector files of every format, whole and broken.

use std::path::PathBuf;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde_json::json;

use super::*;

fn example() -> SteeringVector {
    let metadata = Metadata {
        base_model: Some("owner/name".into()),
        model_type: Some("llama".into()),
        num_hidden_layers: Some(4),
        operation: Operation::Add,
        positions: Positions::Response,
        spans: Some(Spans::Assistant),
        training: Some(json!({"lr": 5e-4, "seed": 11})),
        combination: None,
        calibration: None,
        condition: None,
        unknown_keys: Vec::new(),
    };
    SteeringVector { layers: BTreeMap::from([(1, vec![1.0, -2.0, 0.5]), (3, vec![0.25, 0.0, 4.0])]), metadata }
}

fn written(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_vector_is_read_as_it_was_written_and_its_bytes_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.safetensors");
    example().write(&path).unwrap();
    assert_eq!(SteeringVector::read(&path, None).unwrap(), example());
    let bytes = std::fs::read(&path).unwrap();
    example().write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // The safetensors crate reads the same content.
    let (_, header) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let strings = header.metadata().as_ref().unwrap();
    assert_eq!(strings["layers"], "[1,3]");
    assert_eq!((strings["positions"].as_str(), strings["spans"].as_str()), ("response", "assistant"));
    assert_eq!(strings["hidden_size"], "3");
}

#[test]
fn every_shorter_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = safetensors::to_bytes(&example());
    for len in 0..bytes.len() {
        let path = written(&dir, "v.safetensors", &bytes[..len]);
        assert_eq!(SteeringVector::read(&path, None).unwrap_err().exit_code(), 2);
    }
}

#[test]
fn a_header_of_absurd_length_is_refused_without_allocating() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, "v.safetensors", &[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    assert_eq!(SteeringVector::read(&path, None).unwrap_err().exit_code(), 2);
}

#[test]
fn a_vector_that_is_not_finite_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut vector = example();
    vector.layers.insert(1, vec![f32::NAN, 0.0, 0.0]);
    let path = written(&dir, "v.safetensors", &safetensors::to_bytes(&vector));
    assert!(SteeringVector::read(&path, None).unwrap_err().to_string().contains("not finite"));
}

#[test]
fn a_bare_tensor_needs_a_layer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors/bare.pt");
    let error = SteeringVector::read(&path, None).unwrap_err().to_string();
    assert!(error.contains("does not say which layer"), "{error}");
    let vector = SteeringVector::read(&path, Some(2)).unwrap();
    assert_eq!(vector.layers[&2], [1.0, -2.0, 0.5, 3.0]);
}

#[test]
#[ignore = "needs the authors' data in ../shared/data"]
fn the_authors_vector_has_the_published_norm() {
    let name = "../shared/data/vectors/power-seeking_mistral_vec_ep5_layer13.pt";
    let vector = SteeringVector::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name), Some(13)).unwrap();
    assert_eq!(vector.hidden_size(), 4096);
    let norm = vector.layers[&13].iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    assert!((norm - 1.36).abs() < 0.005, "{norm}");
}

#[test]
fn dict_parameter_slice_and_half_files_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors");
    for (name, layer) in [("dict.pt", None), ("parameter.pt", Some(5)), ("slice.pt", Some(5)), ("half.pt", Some(5))] {
        let vector = SteeringVector::read(&folder.join(name), layer).unwrap();
        assert_eq!(vector.layers[&5], [1.0, -2.0, 0.5, 3.0], "{name}");
    }
    let error = SteeringVector::read(&folder.join("legacy.pt"), Some(1)).unwrap_err().to_string();
    assert!(error.contains("legacy"), "{error}");
}

#[test]
fn a_control_vector_keeps_its_layers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.gguf");
    let tensor = |data: &[f32]| QTensor::quantize(&Tensor::new(data, &Device::Cpu).unwrap(), GgmlDType::F32).unwrap();
    let (a, b) = (tensor(&[1.0, 2.0]), tensor(&[3.0, 4.0]));
    let architecture = Value::String("controlvector".into());
    let hint = Value::String("llama".into());
    let metadata = [("general.architecture", &architecture), ("controlvector.model_hint", &hint)];
    let mut file = std::fs::File::create(&path).unwrap();
    gguf_file::write(&mut file, &metadata, &[("direction.2", &a), ("direction.7", &b)]).unwrap();
    let vector = SteeringVector::read(&path, None).unwrap();
    assert_eq!(vector.layers, BTreeMap::from([(2, vec![1.0, 2.0]), (7, vec![3.0, 4.0])]));
    assert!(SteeringVector::read(&path, Some(1)).unwrap_err().to_string().contains("only a single one can be moved"));
}

#[test]
fn a_model_of_another_size_or_depth_is_refused_by_name() {
    assert!(example().check_model(3, 4).is_ok());
    assert!(example().check_model(4, 4).unwrap_err().to_string().contains("hidden size 3, but the model has 4"));
    let error = example().check_model(3, 3).unwrap_err().to_string();
    assert_eq!(error, "layer 3 out of range: model has 3 layers, 0 to 2");
    let error = example().check_model(3, 5).unwrap_err();
    assert_eq!(error.to_string(), "the vector is for a model of 4 layers (owner/name), but this one has 5");
    assert_eq!(error.exit_code(), 2);
    let mut unknown = example();
    unknown.metadata.num_hidden_layers = None;
    assert!(unknown.check_model(3, 5).is_ok());
}

#[test]
fn a_transfer_is_noted_with_both_names_and_the_vectors_own_model_is_not() {
    let note = example().transfer_note("owner/fine-tune").unwrap();
    assert!(note.contains("owner/name") && note.contains("owner/fine-tune"), "{note}");
    assert_eq!(example().transfer_note("owner/name"), None);
    let mut foreign = example();
    foreign.metadata.base_model = None;
    assert_eq!(foreign.transfer_note("owner/name"), None);
}

/// Returns a `torch.save` archive with this pickle and a storage of one f32. Opcodes are named as in `python -m pickletools`.
fn archive(object: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let pickle = [b"\x80\x02", object, b"."].concat();
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in [("v/data.pkl", pickle.as_slice()), ("v/data/0", &1.0_f32.to_le_bytes())] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn hostile_pickles_end_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |object: &[u8]| {
        let error = SteeringVector::read(&written(&dir, "v.pt", &archive(object)), Some(1)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    for nested in [10_000, 1_000_000] {
        assert!(refusal(&[b")".to_vec(), vec![0x85; nested]].concat()).contains("more than a steering vector"));
    }
    // Each step nests the object before it twice, which makes 2^60 nodes.
    let doubling = [b")q\x00".to_vec(), b"h\x00h\x00\x86q\x00".repeat(60)].concat();
    assert!(refusal(&doubling).contains("more than a steering vector"));
    assert!(refusal(b"X\xff\xff\xff\xff").contains("longer than its file"));
    assert!(refusal(b"\x8a\xff").contains("64 bits"));
    for object in [&b"R"[..], b"\x85", b"h\x07", b"s", b"u", b"t", b"Q", b"(((", b"\xfe", b""] {
        refusal(object);
    }
}

#[test]
fn a_pickle_that_calls_a_function_is_refused_and_calls_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let called = dir.path().join("called");
    let command = format!("touch {}", called.display());
    let text = [&b"X"[..], &(command.len() as u32).to_le_bytes(), command.as_bytes()].concat();
    let object = [&b"cos\nsystem\n("[..], &text, b"tR"].concat();
    assert!(SteeringVector::read(&written(&dir, "v.pt", &archive(&object)), Some(1)).is_err());
    assert!(!called.exists());
}

#[test]
fn every_shorter_torch_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors/bare.pt")).unwrap();
    for len in (0..whole.len()).step_by(7) {
        let path = written(&dir, "v.pt", &whole[..len]);
        assert_eq!(SteeringVector::read(&path, Some(1)).unwrap_err().exit_code(), 2, "{len} bytes");
    }
}

#[test]
fn metadata_that_disagrees_with_the_tensors_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = safetensors::to_bytes(&example());
    let end = bytes.len() - 2 * 3 * size_of::<f32>();
    let header = std::str::from_utf8(&bytes[8..end]).unwrap().trim_end();
    for (from, to, expected) in [
        (r#""format_version":"1""#, r#""format_version":"2""#, "newer bipo"),
        (r#""hidden_size":"3""#, r#""hidden_size":"4""#, "metadata says 4"),
        (r#""layers":"[1,3]""#, r#""layers":"[1]""#, "lists layers [1]"),
        (r#""layers":"[1,3]""#, r#""layers":"[1,2]""#, "layer.2"),
        (r#""layers":"[1,3]""#, r#""no_layers":"[]""#, "\"layers\" is missing"),
        (r#""positions":"response""#, r#""positions":"some""#, "positions"),
        (r#""spans":"assistant""#, r#""spans":"system""#, "spans"),
    ] {
        let header = header.replace(from, to);
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[end..]].concat();
        let error = SteeringVector::read(&written(&dir, "v.safetensors", &file), None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

/// Returns a GGUF control vector with one f32 tensor of zeros, laid out by hand from the format's specification.
fn control_vector(name: &str, dims: &[u64]) -> Vec<u8> {
    control_vector_with(&[], name, dims)
}

/// Returns the same with further keys, whose values are strings.
fn control_vector_with(keys: &[(&str, &str)], name: &str, dims: &[u64]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let count = 1 + keys.len() as u64;
    let mut bytes = [&b"GGUF"[..], &3_u32.to_le_bytes(), &1_u64.to_le_bytes(), &count.to_le_bytes()].concat();
    for (key, value) in [("general.architecture", "controlvector")].iter().chain(keys) {
        bytes.extend([string(key), 8_u32.to_le_bytes().to_vec(), string(value)].concat());
    }
    bytes.extend([string(name), (dims.len() as u32).to_le_bytes().to_vec()].concat());
    dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend([0_u32.to_le_bytes().to_vec(), 0_u64.to_le_bytes().to_vec()].concat());
    bytes.resize(bytes.len().next_multiple_of(32) + 16, 0);
    bytes
}

#[test]
fn control_vectors_that_llama_cpp_would_refuse_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let read = |bytes: &[u8]| SteeringVector::read(&written(&dir, "v.gguf", bytes), None);
    let whole = control_vector("direction.1", &[4]);
    assert_eq!(read(&whole).unwrap().layers[&1], [0.0; 4]);
    for (name, dims, expected) in [
        ("direction.0", &[4_u64][..], "N from 1"),
        ("blk.1.attn_q.weight", &[4], "direction.N"),
        ("direction.1", &[2, 2], "[2, 2]"),
        ("direction.1", &[0], "no elements"),
        ("direction.1", &[1 << 62], "truncated"),
        ("direction.1", &[u64::MAX], "truncated"),
    ] {
        let error = read(&control_vector(name, dims)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    for len in 0..whole.len() {
        assert_eq!(read(&whole[..len]).unwrap_err().exit_code(), 2, "{len} bytes");
    }
}

#[test]
fn a_control_vector_for_another_operation_or_hook_is_refused_and_one_for_ours_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let read = |keys: &[(&str, &str)]| {
        SteeringVector::read(&written(&dir, "v.gguf", &control_vector_with(keys, "direction.1", &[4])), None)
    };
    for (key, value) in [("controlvector.operation", "project"), ("controlvector.hook", "ffn_out")] {
        let error = read(&[(key, value)]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let error = error.to_string();
        assert!(error.contains(&format!("{key} is {value:?}")) && error.contains("can only add"), "{error}");
    }
    let ours = [("controlvector.operation", "add"), ("controlvector.hook", "resid_post")];
    assert_eq!(read(&ours).unwrap().unknown_keys_note(), None);
}

#[test]
fn keys_of_a_control_vector_that_bipo_does_not_know_are_noted_and_those_of_other_programs_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("controlvector.window", "4"), ("general.name", "x"), ("controlvector.model_hint", "llama")];
    let vector = SteeringVector::read(&written(&dir, "v.gguf", &control_vector_with(&keys, "direction.1", &[4])), None);
    let note = vector.unwrap().unknown_keys_note().unwrap();
    assert!(note.contains("controlvector.window:") && !note.contains("general") && !note.contains("hint"), "{note}");
}

#[test]
fn a_vector_of_another_family_of_models_is_noted_and_the_two_names_of_a_family_are_one() {
    let of = |model_type: &str| {
        let metadata = Metadata { model_type: Some(model_type.into()), ..Metadata::default() };
        SteeringVector { metadata, ..example() }
    };
    let note = of("qwen2").family_note("llama").unwrap();
    assert!(note.contains("qwen2") && note.contains("llama"), "{note}");
    for (own, model) in [("gemma3", "gemma3_text"), ("qwen3moe", "qwen3_moe"), ("llama", "mistral"), ("phi3", "phi3")] {
        assert_eq!(of(own).family_note(model), None, "{own}, {model}");
    }
    // A family that bipo has not is one all the same.
    assert!(of("gpt2").family_note("llama").is_some());
    assert_eq!(SteeringVector { metadata: Metadata::default(), ..example() }.family_note("llama"), None);
}
