//! Tests of a session on the tiny model of tests/fixtures/llama.

use candle_core::DType;

use super::*;

fn options() -> SessionOptions {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama");
    SessionOptions { model: model.to_string_lossy().into_owned(), device: "cpu".into(), offline: true, ..Default::default() }
}

fn placement(options: SessionOptions) -> Placement {
    Session::open(options).unwrap().placement
}

#[test]
fn automatic_choices_on_the_cpu_are_dense_f32() {
    let chosen = placement(options());
    assert_eq!((chosen.dtype, chosen.storage), (DType::F32, WeightStorage::Dense));
    assert_eq!((chosen.dtype_name().as_str(), chosen.device_kind()), ("f32", "cpu"));
}

#[test]
fn a_placement_is_named_by_what_it_computes_in() {
    let bf16 = placement(SessionOptions { dtype: DTypeChoice::Bf16, ..options() });
    assert_eq!((bf16.dtype_name().as_str(), bf16.activations()), ("bf16", DType::F32));
    // Whatever is asked for, stored matrices are decoded to f32.
    let stored = placement(SessionOptions { dtype: DTypeChoice::F16, weights: WeightsChoice::Quantized, ..options() });
    assert_eq!((stored.storage, stored.dtype_name().as_str()), (WeightStorage::Stored, "f32"));
    let tensors = Placement { storage: WeightStorage::Tensors, ..bf16 };
    assert_eq!(tensors.activations(), DType::BF16);
}

#[test]
fn what_is_loaded_is_said_in_a_line() {
    let session = Session::open(options()).unwrap();
    let loaded = session.load(&Demand::default()).unwrap();
    assert_eq!(loaded.model.num_blocks(), 3);
    let line = loaded.to_string();
    assert!(line.starts_with("llama: 3 layers, hidden size 32, weights F32, ") && line.ends_with(" s"), "{line}");
}

#[test]
fn a_model_without_a_template_of_its_own_gets_a_built_in_one_unless_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(Path::new(&options().model).join(name), dir.path().join(name)).unwrap();
    }
    let config = std::fs::read_to_string(Path::new(&options().model).join("tokenizer_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config.as_object_mut().unwrap().remove("chat_template");
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let bare = SessionOptions { model: dir.path().to_string_lossy().into_owned(), ..options() };
    assert_eq!(Session::open(bare.clone()).unwrap().fallback_template, Some("plain"));
    assert_eq!(Session::open(SessionOptions { template: "chatml".into(), ..bare }).unwrap().fallback_template, None);
}

#[cfg(target_os = "linux")]
#[test]
fn no_weight_is_read_for_a_demand_beyond_every_machine() {
    let session = Session::open(options()).unwrap();
    let texts = Demand::generation(1 << 40, 1, 64);
    let error = session.load(&texts).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().starts_with("not enough memory: "), "{error}");
    let huge = Demand { kept_layers: 1 << 40, ..Demand::activations(&[], &[0]) };
    assert!(session.check(&Demand { rows: vec![1 << 20], ..huge }).is_err());
    assert_eq!(session.check(&Demand::default()), Ok(Vec::new()));
}

/// The tiny model trains at layer 1 of 3; of its weights in their file, converted, a block less is held.
#[test]
fn blocks_left_in_their_file_are_not_counted_in_main_memory() {
    let session = Session::open(options()).unwrap();
    let demand = Demand::training(&[], &[1], 1).with_lower(LowerBlocks::InFile);
    let (all, block) = (session.config.matrix_elements(), session.config.block_elements(0));
    assert_eq!(demand.held(&session.config, Bytes(4 * all)), Bytes(4 * (all - block)));
    assert_eq!(Demand::training(&[], &[1], 1).held(&session.config, Bytes(4 * all)), Bytes(4 * all));
    let model = session.load(&demand).unwrap().model;
    assert_eq!([0, 1, 2].map(|block| model.reads_any(block..block + 1)), [true, true, false]);
}
