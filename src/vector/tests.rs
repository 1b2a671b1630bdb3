//! Files of every kind, whole and broken.

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
        positions: Positions::Response,
        training: Some(json!({"lr": 5e-4, "seed": 11})),
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
    // The safetensors crate agrees on what is in it.
    let (_, header) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let strings = header.metadata().as_ref().unwrap();
    assert_eq!(strings["layers"], "[1,3]");
    assert_eq!(strings["positions"], "response");
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
fn the_authors_file_has_the_published_norm_and_needs_a_layer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors/bare.pt");
    let error = SteeringVector::read(&path, None).unwrap_err().to_string();
    assert!(error.contains("--layer"), "{error}");
    let vector = SteeringVector::read(&path, Some(2)).unwrap();
    assert_eq!(vector.layers[&2], [1.0, -2.0, 0.5, 3.0]);
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
    assert!(SteeringVector::read(&path, Some(1)).unwrap_err().to_string().contains("--layer cannot move"));
}

#[test]
fn vectors_add_up_layer_by_layer() {
    let mut sum = example();
    let mut other = example();
    other.layers.remove(&1);
    sum.add(&other, -2.0).unwrap();
    assert_eq!(sum.layers[&1], [1.0, -2.0, 0.5]);
    assert_eq!(sum.layers[&3], [-0.25, 0.0, -4.0]);
    other.layers = BTreeMap::from([(0, vec![1.0])]);
    assert!(sum.add(&other, 1.0).is_err());
}

#[test]
fn a_model_of_another_size_or_depth_is_refused() {
    assert!(example().check_model(3, 4).is_ok());
    assert!(example().check_model(4, 4).unwrap_err().to_string().contains("hidden size 3, but the model has 4"));
    let error = example().check_model(3, 3).unwrap_err().to_string();
    assert_eq!(error, "layer 3 out of range: model has 3 layers");
}
