//! Tests of the formats: files that other programs wrote (tests/fixtures/vectors/make.py), round trips, what each format loses
//! or cannot hold, and broken files.

use std::path::PathBuf;

use serde_json::json;

use super::*;

const V: [f32; 4] = [1.0, -2.0, 0.5, 3.0];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors").join(name)
}

fn negative() -> Vec<f32> {
    V.iter().map(|x| -x).collect()
}

/// Returns a vector with all metadata, whose numbers have no short decimal form.
fn example(layers: &[usize]) -> SteeringVector {
    let part = CombinationPart {
        file: "a.pt".into(),
        sha256: "0".repeat(64),
        weight: -0.5,
        layers: layers.to_vec(),
        norm: 0.1,
        base_model: Some("owner/other".into()),
        training: Some(json!({"lr": 0.01})),
        combination: None,
    };
    let metadata = Metadata {
        base_model: Some("owner/näme \"x\"".into()),
        model_type: Some("llama".into()),
        num_hidden_layers: Some(32),
        operation: Operation::Add,
        positions: Positions::Prompt,
        spans: Some(Spans::User),
        training: Some(json!({"lr": 5e-4, "dataset": {"name": "formal"}})),
        combination: Some(Combination { normalize: true, parts: vec![part], orthogonal_to: Vec::new() }),
        calibration: Some(Calibration { budget: "kl=1".into(), minus: None, plus: Some(1.7), model: "owner/other".into() }),
        condition: None,
        unknown_keys: Vec::new(),
    };
    let v = |layer: usize| vec![0.1_f32 + layer as f32, -1e-30, f32::MIN_POSITIVE, 16777217.0 / 3.0];
    SteeringVector { layers: layers.iter().map(|layer| (*layer, v(*layer))).collect(), metadata }
}

fn encode(vector: &SteeringVector, name: &str) -> Result<Encoded> {
    let path = Path::new(name);
    vector.encode(Format::of(path).unwrap(), path)
}

fn decode(bytes: &[u8], name: &str) -> Result<VectorFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    VectorFile::read(&path)
}

#[test]
fn files_of_other_programs_are_read() {
    let tenth: Vec<f32> = V.iter().map(|x| 0.1 * x).collect();
    let unplaced = [
        ("bare.pt", Format::Pt),
        ("parameter.pt", Format::Pt),
        ("slice.pt", Format::Pt),
        ("half.pt", Format::Pt),
        ("bfloat16.pt", Format::Pt),
        ("double.pt", Format::Pt),
        ("row.pt", Format::Pt),
        ("float32.npy", Format::Npy),
        ("float16.npy", Format::Npy),
        ("big_endian_float64.npy", Format::Npy),
        ("column.npy", Format::Npy),
        ("version_3.npy", Format::Npy),
        ("list.json", Format::Json),
        ("plain.safetensors", Format::Safetensors),
    ];
    for (name, format) in unplaced {
        let file = VectorFile::read(&fixture(name)).unwrap();
        assert_eq!((file.format, file.layers()), (format, Vec::new()), "{name}");
        assert!(file.clone().at(None).unwrap_err().to_string().contains("does not say which layer"), "{name}");
        assert_eq!(file.at(Some(7)).unwrap().layers, BTreeMap::from([(7, V.to_vec())]), "{name}");
    }
    let placed = [
        ("dict.pt", Format::Pt, vec![(5, V.to_vec())], None),
        ("repeng.gguf", Format::Gguf, vec![(5, V.to_vec()), (12, negative())], Some("mistral")),
        ("ibm.svec", Format::Svec, vec![(0, V.to_vec()), (12, tenth)], Some("llama")),
        ("layers.safetensors", Format::Safetensors, vec![(2, V.to_vec()), (3, negative())], None),
    ];
    for (name, format, layers, model_type) in placed {
        let file = VectorFile::read(&fixture(name)).unwrap();
        assert_eq!((file.format, file.layers()), (format, layers.iter().map(|(layer, _)| *layer).collect()), "{name}");
        let vector = file.or_at(Some(9)).unwrap();
        assert_eq!(vector.layers, layers.into_iter().collect(), "{name}");
        assert_eq!(vector.metadata, Metadata { model_type: model_type.map(str::to_owned), ..Metadata::default() }, "{name}");
    }
}

#[test]
fn what_is_no_vector_of_a_blocks_output_is_refused_with_the_reason() {
    for (name, expected) in [
        ("legacy.pt", "legacy"),
        ("matrix.pt", "rank 1"),
        ("integers.pt", "no float"),
        ("matrix.npy", "shape [2, 4], expected one vector [hidden]"),
        ("integers.npy", "dtype \"<i4\", expected float16, float32 or float64"),
        ("object.npy", "Python objects, which bipo never loads"),
        ("structured.npy", "structured"),
        ("psyctl_one.safetensors", "\"model.layers[13].mlp.down_proj\" is the output of a module inside a block"),
        ("psyctl_two.safetensors", "mlp.down_proj"),
        ("module_path.safetensors", "mlp.down_proj"),
    ] {
        let error = SteeringVector::read(&fixture(name), Some(1)).unwrap_err();
        assert!(error.to_string().contains(expected) && error.to_string().contains(name), "{error}");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

#[test]
fn prose_in_foreign_metadata_is_no_module() {
    let mut header = json!({"v": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}});
    let mut read = |note: &str| {
        header["__metadata__"] = json!({"note": note});
        let header = header.to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &1.5_f32.to_le_bytes()].concat();
        decode(&bytes, "v.safetensors").and_then(|file| file.at(Some(1)))
    };
    for note in ["my_project, all layers", "an mlp probe", "model.layers[3]"] {
        assert_eq!(read(note).unwrap().layers[&1], [1.5], "{note}");
    }
    for note in ["model.layers.3.self_attn", "['model.layers[3].mlp.act_fn']", "model.layers.3.input_layernorm"] {
        assert!(read(note).is_err(), "{note}");
    }
}

#[test]
fn caveats_are_told_where_they_apply() {
    let all = |name: &str, vector: &SteeringVector| Format::of(Path::new(name)).unwrap().caveats(vector).join("; ");
    let (known, bare) = (example(&[1]), SteeringVector { metadata: Metadata::default(), ..example(&[1]) });
    assert!(all("v.gguf", &known).contains("adds it at every position") && !all("v.gguf", &known).contains("model type"));
    assert_eq!(
        all("v.gguf", &bare),
        "the model type is not known: controlvector.model_hint is \"unknown\"; a file that bipo learned says it: convert that one"
    );
    assert!(all("v.svec", &bare).contains("input of block N") && all("v.svec", &bare).contains("model type"));
    assert_eq!(all("v.json", &known) + &all("v.npy", &known), "");
}

#[test]
fn formats_that_hold_metadata_give_back_the_same_vector() {
    let vector = example(&[1, 13]);
    for name in ["v.safetensors", "v.gguf", "v.json"] {
        let Encoded { bytes, lost } = encode(&vector, name).unwrap();
        assert!(lost.is_empty(), "{name}: {lost:?}");
        assert_eq!(decode(&bytes, name).unwrap().at(None).unwrap(), vector, "{name}");
        assert_eq!(encode(&vector, name).unwrap().bytes, bytes, "{name}");
    }
}

#[test]
fn formats_that_lose_metadata_keep_the_numbers_and_say_what_is_lost() {
    let vector = example(&[13]);
    let known = ["base_model", "num_hidden_layers", "positions", "spans", "training", "combination", "calibration"];
    for (name, first) in [("v.svec", &[][..]), ("v.pt", &["layer", "model_type"]), ("v.npy", &["layer", "model_type"])] {
        let Encoded { bytes, lost } = encode(&vector, name).unwrap();
        assert_eq!(lost, [first, &known].concat(), "{name}");
        let file = decode(&bytes, name).unwrap();
        assert_eq!(file.layers().is_empty(), name != "v.svec");
        assert_eq!(file.or_at(Some(13)).unwrap().layers, vector.layers, "{name}");
        assert_eq!(encode(&vector, name).unwrap().bytes, bytes, "{name}");
    }
    let bare = SteeringVector { metadata: Metadata::default(), ..vector };
    assert_eq!(encode(&bare, "v.npy").unwrap().lost, ["layer"]);
    assert!(encode(&bare, "v.svec").unwrap().lost.is_empty());
}

#[test]
fn a_vector_that_is_taken_out_says_so_where_the_format_can_and_warns_of_readers_that_add_it() {
    let known = Metadata { operation: Operation::Ablate, model_type: Some("llama".into()), ..Metadata::default() };
    let vector = SteeringVector { metadata: known, ..example(&[5]) };
    for name in ["v.safetensors", "v.gguf", "v.json"] {
        let Encoded { bytes, lost } = encode(&vector, name).unwrap();
        assert_eq!((decode(&bytes, name).unwrap().at(None).unwrap(), lost), (vector.clone(), vec![]), "{name}");
        // Files that say nothing mean what they always meant: nothing is said of an addition.
        let added =
            SteeringVector { metadata: Metadata { operation: Operation::Add, ..vector.metadata.clone() }, ..vector.clone() };
        let bytes = encode(&added, name).unwrap().bytes;
        assert!(!bytes.windows(9).any(|word| word == b"operation"), "{name}");
    }
    for name in ["v.svec", "v.pt", "v.npy"] {
        assert!(encode(&vector, name).unwrap().lost.contains(&"operation"), "{name}");
    }
    for (format, expected) in [
        (Format::Gguf, "llama.cpp adds it"),
        (Format::Svec, "whoever reads it adds it"),
        (Format::Pt, "whoever reads it adds it"),
        (Format::Npy, "whoever reads it adds it"),
    ] {
        assert!(format.caveats(&vector)[0].contains(expected), "{format:?}");
    }
    assert!(Format::Safetensors.caveats(&vector).is_empty() && Format::Json.caveats(&vector).is_empty());
}

#[test]
fn a_control_vectors_own_key_says_the_operation_and_a_word_that_is_none_is_refused() {
    let vector = SteeringVector { metadata: Metadata { operation: Operation::Ablate, ..Metadata::default() }, ..example(&[5]) };
    let bytes = encode(&vector, "v.gguf").unwrap().bytes;
    let names = |key: &[u8]| bytes.windows(key.len()).filter(|word| *word == key).count();
    assert_eq!((names(b"controlvector.operation"), names(b"bipo.operation")), (1, 0));
    let json = String::from_utf8(encode(&vector, "v.json").unwrap().bytes).unwrap();
    for word in ["null", "project", "Add", ""] {
        let error = decode(json.replace("\"ablate\"", &format!("{word:?}")).as_bytes(), "v.json").unwrap_err().to_string();
        assert!(error.contains("\"operation\"") && error.contains("add or ablate"), "{word}: {error}");
    }
    let mut bytes = encode(&vector, "v.safetensors").unwrap().bytes;
    let at = bytes.windows(6).position(|word| word == b"ablate").unwrap();
    bytes[at..at + 6].copy_from_slice(b"ablatx");
    let error = decode(&bytes, "v.safetensors").unwrap_err().to_string();
    assert!(error.contains("\"operation\" is \"ablatx\", expected add or ablate"), "{error}");
}

#[test]
fn a_condition_is_kept_where_there_is_metadata_and_one_that_cannot_be_asked_is_refused() {
    let condition = Condition {
        reading: PromptReading::Last,
        comparison: FiringSide::Below,
        threshold: 0.1 + 0.2,
        f1: 6.0 / 7.0,
        need: 3,
        rest: 4,
    };
    let vector = SteeringVector { metadata: Metadata { condition: Some(condition), ..Metadata::default() }, ..example(&[5]) };
    for name in ["v.safetensors", "v.gguf", "v.json"] {
        let Encoded { bytes, lost } = encode(&vector, name).unwrap();
        assert_eq!((decode(&bytes, name).unwrap().at(None).unwrap(), lost), (vector.clone(), vec![]), "{name}");
    }
    for name in ["v.svec", "v.pt", "v.npy"] {
        assert!(encode(&vector, name).unwrap().lost.contains(&"condition"), "{name}");
    }
    assert!(Format::Gguf.caveats(&vector)[0].contains("llama.cpp adds it"));
    let json = String::from_utf8(encode(&vector, "v.json").unwrap().bytes).unwrap();
    for (from, to) in [("\"<\"", "\"=\""), ("\"last\"", "\"first\""), ("0.30000000000000004", "null"), ("\"need\":3,", "")] {
        assert!(json.contains(from), "{json}");
        assert!(decode(json.replace(from, to).as_bytes(), "v.json").is_err(), "{to}");
    }
    let mut bytes = encode(&vector, "v.safetensors").unwrap().bytes;
    let at = bytes.windows(4).position(|word| word == b"last").unwrap();
    bytes[at..at + 4].copy_from_slice(b"lost");
    let error = decode(&bytes, "v.safetensors").unwrap_err().to_string();
    assert!(error.contains("metadata key \"condition\"") && error.contains("expected reading (mean or last)"), "{error}");
}

#[test]
fn the_extension_alone_names_the_format_to_write() {
    assert_eq!(Format::of(Path::new("a/b.GGUF")).unwrap(), Format::Gguf);
    for name in ["v", "v.bin", "v.gguf:1", ".pt", ""] {
        let error = Format::of(Path::new(name)).unwrap_err();
        assert!(error.to_string().contains(".safetensors, .pt, .gguf, .svec, .npy, .json"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn numpy_files_are_numpys_own_bytes() {
    let vector = SteeringVector { layers: BTreeMap::from([(3, V.to_vec())]), metadata: Metadata::default() };
    assert_eq!(encode(&vector, "v.npy").unwrap().bytes, std::fs::read(fixture("float32.npy")).unwrap());
}

#[test]
fn layers_that_a_format_cannot_express_are_refused() {
    for (layers, name, expected) in [
        (&[0][..], "v.gguf", "v.gguf: layer 0 cannot be expressed"),
        (&[0, 5], "v.gguf", "v.gguf: layer 0 cannot be expressed"),
        (&[1, 2], "v.npy", "v.npy: the format holds one vector, but there are 2 (layers 1, 2)"),
        (&[1, 2], "v.pt", "v.pt: the format holds one vector"),
        (&[32], "v.safetensors", "layer 32 out of range: the vector's model has 32 layers"),
    ] {
        let error = encode(&example(layers), name).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

/// Checks the file against what gguf's own dump shows: keys by name, and only tensors `direction.N`.
#[test]
fn control_vectors_have_the_keys_and_tensors_of_llama_cpp() {
    use candle_core::quantized::{GgmlDType, gguf_file};
    let bytes = encode(&example(&[1, 13]), "v.gguf").unwrap().bytes;
    let content = gguf_file::Content::read(&mut std::io::Cursor::new(&bytes)).unwrap();
    let text = |key: &str| content.metadata[key].to_string().unwrap().clone();
    assert_eq!(text("general.architecture"), "controlvector");
    assert_eq!(text("controlvector.model_hint"), "llama");
    assert_eq!(content.metadata["controlvector.layer_count"].to_u32().unwrap(), 2);
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    assert_eq!(names, ["direction.1", "direction.13"]);
    assert!(content.tensor_infos.values().all(|info| info.ggml_dtype == GgmlDType::F32 && info.shape.dims() == [4]));
    let unknown = SteeringVector { metadata: Metadata::default(), ..example(&[1]) };
    let bytes = encode(&unknown, "v.gguf").unwrap().bytes;
    assert_eq!(decode(&bytes, "v.gguf").unwrap().at(None).unwrap(), unknown);
}

#[test]
fn every_shorter_file_is_refused() {
    for name in ["v.safetensors", "v.pt", "v.gguf", "v.svec", "v.npy", "v.json"] {
        let bytes = encode(&example(&[13]), name).unwrap().bytes;
        let end = match name {
            // The file stays valid without its last line feed.
            "v.svec" | "v.json" => bytes.len() - 1,
            // GGUF pads the data of four numbers to 32 bytes.
            "v.gguf" => bytes.len() - 16,
            _ => bytes.len(),
        };
        for len in 0..end {
            let error = decode(&bytes[..len], name).and_then(|file| file.or_at(Some(1))).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{name}, {len} bytes");
        }
    }
}

#[test]
fn every_changed_byte_gives_a_vector_or_an_error_but_no_panic() {
    for name in ["v.safetensors", "v.pt", "v.gguf", "v.svec", "v.npy", "v.json"] {
        let bytes = encode(&example(&[13]), name).unwrap().bytes;
        let mut outcomes = (0, 0);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 0x55;
            match decode(&changed, name) {
                Ok(_) => outcomes.0 += 1,
                Err(_) => outcomes.1 += 1,
            }
        }
        assert!(outcomes.1 > 0, "{name}: {outcomes:?}");
    }
}

#[test]
fn broken_arrays_are_refused_before_they_are_allocated() {
    let file = |header: &str, data: &[u8]| {
        let length = (header.len() as u16).to_le_bytes();
        [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
    };
    let data = [0_u8; 8];
    for (header, expected) in [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "does not fit the 8 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "does not fit the 8 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905,), }", "does not fit the 8 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }", "whole numbers"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "shape []"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "whole numbers"),
        ("{'descr': '<f4', 'fortran_order': False, }", "expected descr, fortran_order and shape"),
        ("{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }", "once each"),
        ("{'descr': '<f4', 'fortran_order': exit(), 'shape': (2,), }", "expected \"}\""),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "dtype \"<c8\""),
        ("{'descr': '<f4", "does not end"),
        ("", "expected \"{\""),
    ] {
        let error = decode(&file(header, &data), "v.npy").unwrap_err().to_string();
        assert!(error.contains(expected), "{header}: {error}");
    }
    let long = [&b"\x93NUMPY\x02\x00"[..], &u32::MAX.to_le_bytes(), b"{}"].concat();
    assert!(decode(&long, "v.npy").unwrap_err().to_string().contains("ends early"));
    assert!(decode(b"\x93NUMPY\x09\x00", "v.npy").unwrap_err().to_string().contains("version 9"));
    let good = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &data);
    assert_eq!(decode(&good, "v.npy").unwrap().at(Some(0)).unwrap().layers[&0], [0.0, 0.0]);
}

#[test]
fn broken_json_is_refused_with_what_is_wrong() {
    let deep = format!("{{\"training\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, expected) in [
        ("{", "EOF"),
        ("{}", "expected \"format\": \"bipo\""),
        ("[]", "holds no vector"),
        ("[1, \"2\"]", "line 1 column 7"),
        ("[1, NaN]", "line 1"),
        ("[1, 1e39]", "number out of range at line 1 column 8"),
        (deep.as_str(), "recursion limit"),
        (r#"{"layers": {"1": [1]}}"#, "expected \"format\": \"bipo\""),
        (r#"{"format":"bipo","format_version":2,"layers":{"1":[1]}}"#, "newer bipo"),
        (r#"{"format":"bipo","format_version":1,"layers":{"1":[1],"1":[1]}}"#, "layer 1 comes twice"),
        (r#"{"format":"bipo","format_version":1,"layers":{"1":[1],"01":[1]}}"#, "layer 1 comes twice"),
        (r#"{"format":"bipo","format_version":1,"layers":{"one":[1]}}"#, "key \"one\": expected a layer's number"),
        (r#"{"format":"bipo","format_version":1,"layers":{"1":[1],"2":[1,2]}}"#, "layer 2 has 2 elements, another has 1"),
        (r#"{"format":"bipo","format_version":1,"hidden_size":3,"layers":{"1":[1]}}"#, "hidden_size"),
        (r#"{"format":"bipo","format_version":1,"positions":"x","layers":{"1":[1]}}"#, "positions"),
        (r#"{"format":"bipo","format_version":1,"spans":"x","layers":{"1":[1]}}"#, "key \"spans\" is \"x\""),
        (r#"{"format":"bipo","format_version":1,"num_hidden_layers":2,"layers":{"2":[1]}}"#, "layer 2 of a model of 2 layers"),
        (r#"{"format":"bipo","format_version":1,"combination":{"parts":1},"layers":{"2":[1]}}"#, "invalid type"),
        (r#"{"model_type":"llama","directions":{"-1":[1]}}"#, "key \"-1\""),
        (r#"{"model_type":"llama","directions":{}}"#, "holds no vector"),
        (r#"{"model_type":"llama","directions":{"1":[1]},"layers":{}}"#, "expected \"format\": \"bipo\""),
    ] {
        let error = decode(text.as_bytes(), "v.json").and_then(|file| file.check_finite()).unwrap_err();
        assert!(error.to_string().contains(expected), "{text:.80}: {error}");
        assert_eq!(error.to_string().lines().count(), 1);
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn what_is_no_vector_file_at_all_is_refused() {
    for (name, bytes, expected) in [
        ("v.safetensors", &b""[..], "expected safetensors"),
        ("v.txt", b"hello, this is some text", "expected safetensors"),
        ("v.pt", b"hello", "not a zip archive"),
        ("v.pkl", b"\x80\x04\x95\x00", "not a zip archive"),
        ("v.npz", b"PK\x05\x06", "expected safetensors"),
    ] {
        let error = decode(bytes, name).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.gguf");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(SteeringVector::read(&path, None).unwrap_err().to_string().contains("64 MiB"));
}
