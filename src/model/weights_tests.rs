//! Small files of both kinds, whole, mislabelled and cut.

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use tempfile::TempDir;

use super::*;
use crate::model::config::RopeScaling;
use crate::model::shapes::Shape;

const CPU: &Device = &Device::Cpu;

fn range(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    Tensor::arange(0f32, count as f32, CPU).unwrap().reshape(shape).unwrap()
}

fn safetensors(folder: &TempDir, name: &str, tensors: &[(&str, Tensor)]) -> PathBuf {
    let path = folder.path().join(name);
    let tensors: HashMap<_, _> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

fn open_shards(shards: Vec<PathBuf>) -> Result<Weights> {
    let unused = PathBuf::new();
    Weights::open(&Checkpoint::Safetensors {
        config: unused.clone(),
        shards,
        tokenizer: unused,
        tokenizer_config: None,
        generation_config: None,
        chat_template: None,
    })
}

/// A GGUF file of four heads and two key-value heads of width eight, hidden size four.
fn gguf(folder: &TempDir, arch: &str, more: &[(&str, Value)], tensors: &[(&str, QTensor)]) -> PathBuf {
    let path = folder.path().join(format!("{arch}.gguf"));
    let mut metadata = vec![("general.architecture".to_owned(), Value::String(arch.to_owned()))];
    metadata.extend(
        [("head_count", 4), ("head_count_kv", 2)].map(|(key, value)| (format!("{arch}.attention.{key}"), Value::U32(value))),
    );
    metadata.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    path
}

/// What these files' metadata say.
fn config_of(arch: &str) -> Config {
    let mut config = Config { hidden_size: 4, head_dim: 8, model_type: arch.to_owned(), ..Shape::Tiny.config() };
    config.ropes[0].rotary_dim = 8;
    config
}

fn config() -> Config {
    config_of("llama")
}

fn f32_tensor(tensor: &Tensor) -> QTensor {
    QTensor::quantize(tensor, GgmlDType::F32).unwrap()
}

fn open_gguf(path: &Path) -> Result<Weights> {
    Weights::open(&Checkpoint::Gguf { path: path.to_path_buf(), tokenizer: None })
}

#[track_caller]
fn refused<T>(result: Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("not refused: {words:?}") };
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for word in words {
        assert!(message.contains(word), "{message} lacks {word}");
    }
}

#[test]
fn shards_give_each_tensor_in_the_type_that_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let tensor = range(&[2, 3]);
    let half = |dtype| tensor.to_dtype(dtype).unwrap();
    let first = safetensors(&folder, "model-00001-of-00002.safetensors", &[("a", tensor.clone()), ("b", half(DType::F16))]);
    let second = safetensors(&folder, "model-00002-of-00002.safetensors", &[("c", half(DType::BF16))]);
    let weights = open_shards(vec![first, second]).unwrap();
    for name in ["a", "b", "c"] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let loaded = weights.load(name, &[2, 3], &config(), dtype, CPU).unwrap();
            assert_eq!(loaded.dtype(), dtype);
            let values = loaded.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(values, [[0., 1., 2.], [3., 4., 5.]]);
        }
    }
    assert!(weights.gguf_metadata().is_none());
}

#[test]
fn a_tensor_of_another_shape_or_type_or_none_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let ids = Tensor::new(&[1i64, 2], CPU).unwrap();
    let path = safetensors(&folder, "model.safetensors", &[("a", range(&[2, 3])), ("ids", ids)]);
    let weights = open_shards(vec![path]).unwrap();
    let load = |name, shape: &[usize]| weights.load(name, shape, &config(), DType::F32, CPU);
    refused(load("a", &[3, 2]), &["model.safetensors: ", "`a`", "expected shape [3, 2]", "found [2, 3]"]);
    refused(load("a", &[6]), &["[6]", "[2, 3]"]);
    refused(load("ids", &[2]), &["`ids`", "I64", "BF16"]);
    refused(load("b", &[2]), &["model.safetensors: ", "missing tensor `b`"]);
}

#[test]
fn threads_can_load_from_the_same_weights() {
    fn shared<T: Send + Sync>() {}
    shared::<Weights>();
}

#[test]
fn safetensors_cut_anywhere_are_refused() {
    let folder = TempDir::new().unwrap();
    let whole = std::fs::read(safetensors(&folder, "model.safetensors", &[("a", range(&[2, 3]))])).unwrap();
    let cut = folder.path().join("cut.safetensors");
    for length in 1..whole.len() {
        std::fs::write(&cut, &whole[..length]).unwrap();
        refused(open_shards(vec![cut.clone()]), &["cut.safetensors: "]);
    }
    std::fs::write(&cut, [whole.as_slice(), b"more"].concat()).unwrap();
    refused(open_shards(vec![cut.clone()]), &["truncated or broken"]);
    std::fs::write(&cut, []).unwrap();
    refused(open_shards(vec![cut]), &["cut.safetensors: "]);
}

#[test]
fn files_that_are_no_safetensors_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    let try_bytes = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open_shards(vec![path.clone()])
    };
    refused(try_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), &["git lfs pull"]);
    refused(try_bytes(&[0xff; 64]), &["not a safetensors file"]);
    let header = br#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}}"#;
    refused(try_bytes(&[&(header.len() as u64).to_le_bytes()[..], header].concat()), &["model.safetensors: "]);
    assert!(matches!(open_shards(vec![folder.path().join("none.safetensors")]), Err(Error::Read { .. })));
}

#[test]
fn interleaved_rows_of_llama_files_come_back_half_split() {
    let folder = TempDir::new().unwrap();
    for arch in ["llama", "mistral"] {
        let names = ["blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"];
        let tensors = [range(&[32, 4]), range(&[16, 4]), range(&[16, 4])].map(|tensor| f32_tensor(&tensor));
        let bias = ("blk.1.attn_k.bias", f32_tensor(&range(&[16])));
        let tensors: Vec<_> = names.into_iter().zip(tensors).chain([bias]).collect();
        let weights = open_gguf(&gguf(&folder, arch, &[], &tensors)).unwrap();
        // llama.cpp's converter moves row j·D/2 + i of each head to row 2i + j.
        let stored_row = |row: usize| {
            let (head, within) = (row / 8, row % 8);
            let (j, i) = (within / 4, within % 4);
            head * 8 + 2 * i + j
        };
        for (name, rows) in [("q_proj", 32), ("k_proj", 16)] {
            let name = format!("model.layers.1.self_attn.{name}.weight");
            let loaded = weights.load(&name, &[rows, 4], &config_of(arch), DType::F32, CPU).unwrap().to_vec2::<f32>().unwrap();
            for (row, values) in loaded.iter().enumerate() {
                let first = (4 * stored_row(row)) as f32;
                assert_eq!(values, &[first, first + 1., first + 2., first + 3.], "{arch} {name} row {row}");
            }
        }
        let loaded = weights.load("model.layers.1.self_attn.k_proj.bias", &[16], &config_of(arch), DType::F32, CPU).unwrap();
        assert_eq!(loaded.to_vec1::<f32>().unwrap(), (0..16).map(|row| stored_row(row) as f32).collect::<Vec<_>>());
        let loaded =
            weights.load("model.layers.1.self_attn.v_proj.weight", &[16, 4], &config_of(arch), DType::F32, CPU).unwrap();
        assert_eq!(loaded.to_vec2::<f32>().unwrap(), range(&[16, 4]).to_vec2::<f32>().unwrap());
    }
}

#[test]
fn rows_of_qwen_files_stay_in_place() {
    let folder = TempDir::new().unwrap();
    let tensors = [("blk.0.attn_q.weight", f32_tensor(&range(&[32, 4]))), ("blk.0.attn_q.bias", f32_tensor(&range(&[32])))];
    let weights = open_gguf(&gguf(&folder, "qwen2", &[], &tensors)).unwrap();
    let loaded =
        weights.load("model.layers.0.self_attn.q_proj.weight", &[32, 4], &config_of("qwen2"), DType::F32, CPU).unwrap();
    assert_eq!(loaded.to_vec2::<f32>().unwrap(), range(&[32, 4]).to_vec2::<f32>().unwrap());
}

#[test]
fn quantised_tensors_come_dequantised_and_converted() {
    let folder = TempDir::new().unwrap();
    // A block whose largest magnitude is 127 has steps of one in Q8_0, so whole numbers are exact.
    let values: Vec<f32> = (0..32).map(|i| if i == 0 { 127.0 } else { i as f32 - 16.0 }).collect();
    let tensor = QTensor::quantize(&Tensor::from_vec(values.clone(), (1, 32), CPU).unwrap(), GgmlDType::Q8_0).unwrap();
    let weights = open_gguf(&gguf(&folder, "llama", &[], &[("output.weight", tensor)])).unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let loaded = weights.load("lm_head.weight", &[1, 32], &config(), dtype, CPU).unwrap();
        assert_eq!(loaded.dtype(), dtype);
        assert_eq!(loaded.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
    }
    refused(
        weights.load("lm_head.weight", &[32, 1], &config(), DType::F32, CPU),
        &["llama.gguf: ", "`output.weight`", "[32, 1]", "[1, 32]"],
    );
    refused(
        weights.load("model.norm.weight", &[4], &config(), DType::F32, CPU),
        &["llama.gguf: ", "missing tensor `output_norm.weight`"],
    );
}

#[test]
fn rope_factors_of_a_gguf_file_become_the_rope_scaling() {
    let folder = TempDir::new().unwrap();
    let sizes = [
        ("llama.block_count", 1),
        ("llama.embedding_length", 32),
        ("llama.feed_forward_length", 8),
        ("llama.context_length", 16),
    ];
    let mut more: Vec<_> = sizes.map(|(key, value)| (key, Value::U32(value))).into();
    more.push(("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)));
    let embedding = || ("token_embd.weight", f32_tensor(&range(&[8, 32])));
    let load = |factors: &[f32]| {
        let tensors = [embedding(), ("rope_freqs.weight", f32_tensor(&Tensor::new(factors, CPU).unwrap()))];
        let path = gguf(&folder, "llama", &more, &tensors);
        let checkpoint = Checkpoint::Gguf { path, tokenizer: None };
        Config::load(&checkpoint, &Weights::open(&checkpoint)?)
    };
    assert_eq!(load(&[1., 2., 4., 8.]).unwrap().ropes[0].scaling, RopeScaling::Factors(vec![1., 2., 4., 8.]));
    refused(load(&[1., 2., 4.]), &["rope_freqs.weight", "[4]", "[3]"]);
    refused(load(&[1., 0., 4., 8.]), &["rope_freqs.weight"]);
}

#[test]
fn gguf_cut_anywhere_is_refused() {
    let folder = TempDir::new().unwrap();
    let more = [("tokenizer.ggml.tokens", Value::Array(vec![Value::String("a".to_owned()), Value::String("b".to_owned())]))];
    let tensors = [("token_embd.weight", f32_tensor(&range(&[2, 4]))), ("output_norm.weight", f32_tensor(&range(&[8])))];
    let whole = std::fs::read(gguf(&folder, "llama", &more, &tensors)).unwrap();
    let cut = folder.path().join("cut.gguf");
    for length in 0..whole.len() {
        std::fs::write(&cut, &whole[..length]).unwrap();
        refused(open_gguf(&cut), &["cut.gguf: "]);
    }
}

#[test]
fn no_byte_of_a_gguf_header_can_cause_a_panic() {
    let folder = TempDir::new().unwrap();
    let more = [("general.alignment", Value::U32(32)), ("x", Value::Array(vec![Value::U8(1); 3]))];
    let whole = std::fs::read(gguf(&folder, "llama", &more, &[("token_embd.weight", f32_tensor(&range(&[2, 4])))])).unwrap();
    let broken = folder.path().join("broken.gguf");
    for at in 0..whole.len() - 32 {
        for byte in [0x00, 0x01, 0x09, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            std::fs::write(&broken, &bytes).unwrap();
            if let Ok(weights) = open_gguf(&broken) {
                let _ = weights.load("model.embed_tokens.weight", &[2, 4], &config(), DType::F32, CPU);
            }
        }
    }
}

#[test]
fn a_gguf_file_that_lies_about_itself_is_refused() {
    let folder = TempDir::new().unwrap();
    let small = || [("token_embd.weight", f32_tensor(&range(&[2, 4])))];
    let with = |key: &'static str, value: Value| open_gguf(&gguf(&folder, "llama", &[(key, value)], &small()));
    refused(with("general.alignment", Value::U32(0)), &["general.alignment", "0"]);
    refused(with("split.count", Value::U16(3)), &["one of 3 parts", "-00001-of-00003.gguf"]);

    let whole = std::fs::read(gguf(&folder, "llama", &[("x", Value::Array(vec![Value::U8(1); 3]))], &small())).unwrap();
    let path = folder.path().join("lies.gguf");
    let patched = |at: usize, bytes: &[u8]| {
        let mut whole = whole.clone();
        whole[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&path, &whole).unwrap();
        open_gguf(&path)
    };
    let huge = (u64::MAX / 2).to_le_bytes();
    refused(patched(0, b"GGML"), &["not a GGUF file"]);
    refused(patched(0, b"version "), &["git lfs pull"]);
    refused(patched(4, &[9, 0, 0, 0]), &["version 9"]);
    refused(patched(8, &huge), &["lies.gguf: "]); // tensors
    refused(patched(16, &huge), &["ends early"]); // metadata
    let find = |bytes: &[u8]| whole.windows(bytes.len()).position(|window| window == bytes).unwrap();
    let array = find(b"x\x09\0\0\0") + 5;
    refused(patched(array + 4, &huge), &["elements in arrays"]);
    refused(patched(array, &[77, 0, 0, 0]), &["unknown type 77"]);
    let dims = find(b"token_embd.weight\x02\0\0\0") + 21;
    refused(patched(dims, &huge), &["token_embd.weight", "past the file's"]);
    refused(patched(dims + 16, &[20, 0, 0, 0]), &["unknown dtype", "Q4_0"]);
    refused(patched(dims + 20, &huge), &["token_embd.weight", "past the file's"]);
}
