//! Rows: configurations, tokenizers, safetensors and GGUF models, and folders that are none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Case;
use crate::bytes::{gguf, key, llama_gguf, safetensors, tensor, text_key, u32_key};
use crate::cli::fixture;

pub fn cases() -> Vec<Case> {
    [configs(), tokenizers(), safetensors_models(), gguf_models(), folders()].into_iter().flatten().collect()
}

fn configs() -> Vec<Case> {
    let edit = |from, to, says| Case::model_edit("config.json", from, to, says);
    vec![
        Case::model("config.json", "", "config.json"),
        Case::model("config.json", "{", "config.json"),
        Case::model("config.json", "[]", "config.json"),
        Case::model("config.json", "[".repeat(1 << 20), "config.json"),
        Case::model("config.json", "\u{feff}{}", "config.json"),
        Case::model("config.json", b"\xff\xfe{\0}\0".to_vec(), "not UTF-8"),
        edit("\"hidden_size\": 32", "\"hidden_size\": 1000000000000", "key `hidden_size`"),
        edit("\"hidden_size\": 32", "\"hidden_size\": 1e12", "key `hidden_size`"),
        edit("\"hidden_size\": 32", "\"hidden_size\": -32", "key `hidden_size`"),
        Case::train("--model m", "expected shape [320, 16777216]").with_edit(
            "config.json",
            "\"hidden_size\": 32",
            "\"hidden_size\": 16777216",
        ),
        edit("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "key `num_attention_heads`"),
        edit("\"num_attention_heads\": 4", "\"num_attention_heads\": 3", "is not a multiple of num_attention_heads 3"),
        edit("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "cannot share"),
        edit("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1000000000", "1000000000"),
        edit("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4096", "model.layers.3"),
        edit("\"num_hidden_layers\": 3", "\"num_hidden_layers\": \"3\"", "key `num_hidden_layers`"),
        edit("\"vocab_size\"", "\"vocab_size\": 0, \"was\"", "key `vocab_size`"),
        edit("\"rms_norm_eps\"", "\"rms_norm_eps\": -1, \"was\"", "rms_norm_eps -1"),
        edit("\"rms_norm_eps\"", "\"rms_norm_eps\": 1e999, \"was\"", "config.json"),
        edit("\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"", "expected one of llama"),
        edit("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "expected silu"),
        edit("\"max_position_embeddings\"", "\"max_position_embeddings\": 1, \"was\"", "context is 1"),
        Case::model("generation_config.json", "{\"eos_token_id\": -1}", "eos_token_id"),
        Case::model("generation_config.json", "nonsense", "generation_config.json"),
        Case::model("tokenizer_config.json", "{\"eos_token\": 7}", "eos_token"),
        Case::model("tokenizer_config.json", "{\"a\":".repeat(1 << 18), "tokenizer_config.json"),
    ]
}

fn tokenizers() -> Vec<Case> {
    let whole = fs::read_to_string(fixture("llama/tokenizer.json")).unwrap();
    let with = |key: &str, value: &str| {
        let mut root: serde_json::Value = serde_json::from_str(&whole).unwrap();
        root[key] = serde_json::from_str(value).unwrap();
        root.to_string()
    };
    vec![
        Case::model("tokenizer.json", "", "not a tokenizer"),
        Case::model("tokenizer.json", &whole.as_bytes()[..whole.len() / 2], "not a tokenizer"),
        Case::model("tokenizer.json", "{\"a\":[".repeat(1 << 18), "not a tokenizer"),
        Case::model("tokenizer.json", with("model", r#"{"type":"BPE","vocab":{"a":0},"merges":["a b"]}"#), "not a tokenizer"),
        Case::model("tokenizer.json", with("model", r#"{"type":"Unigram","unk_id":9,"vocab":[["a",-1]]}"#), "not a tokenizer"),
        Case::model(
            "tokenizer.json",
            with("normalizer", r#"{"type":"Replace","pattern":{"Regex":"("},"content":"x"}"#),
            "not a tokenizer",
        ),
        Case::model("tokenizer.json", far_id(&whole), "the id 4294967295, but the model has 320 ids"),
    ]
}

/// The bracket that the template writes has an id that no model has.
fn far_id(tokenizer: &str) -> String {
    let mut root: serde_json::Value = serde_json::from_str(tokenizer).unwrap();
    let id = root["model"]["vocab"].get_mut("[").unwrap();
    *id = u32::MAX.into();
    root.to_string()
}

fn safetensors_models() -> Vec<Case> {
    let whole = fs::read(fixture("llama/model.safetensors")).unwrap();
    let model = |bytes: Vec<u8>, says| Case::model("model.safetensors", bytes, says);
    let one = |entry: &str, data: &[u8]| safetensors(&format!("{{\"model.norm.weight\":{entry}}}"), data);
    let mut nan = whole.clone();
    let length = nan.len();
    nan[length - 4096..].iter_mut().for_each(|byte| *byte = 0xff);
    vec![
        model(Vec::new(), "model.safetensors"),
        model(vec![0; 8], "model.safetensors"),
        model([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "not a safetensors file"),
        model([&(1_u64 << 40).to_le_bytes()[..], b"{}"].concat(), "not a safetensors file"),
        model(whole[..whole.len() - 1].to_vec(), "truncated"),
        model([&whole[..], b"x"].concat(), "truncated"),
        model(safetensors(&"[".repeat(1 << 20), &[]), "broken safetensors header"),
        model(safetensors("{}", &[]), "missing tensor"),
        model(one(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#, &[]), "model.safetensors"),
        model(one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#, &[0; 4]), "model.safetensors"),
        model(one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}"#, &[0; 4]), "model.safetensors"),
        model(
            safetensors(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                &[0; 12],
            ),
            "model.safetensors",
        ),
        model(one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#, &[0; 4]), "broken safetensors header"),
        model(b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        model(nan, "not finite").exit(1),
    ]
}

fn gguf_models() -> Vec<Case> {
    let model = |bytes: Vec<u8>, says| Case::steer("--model m.gguf", says).file("m.gguf", bytes);
    let with = |name: &str, value: Vec<u8>, says| model(llama_gguf(name, value), says);
    let array = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    // A type of tensors that is not read.
    let dims = [&1_u32.to_le_bytes()[..], &32_u64.to_le_bytes()].concat();
    let mxfp4 = [&1_u64.to_le_bytes()[..], b"a", &dims, &39_u32.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    let nested = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat().repeat(1 << 16);
    vec![
        model(Vec::new(), "not a GGUF file"),
        model(b"GGUF".to_vec(), "truncated"),
        model(b"GGML\x03\0\0\0".to_vec(), "does not begin with `GGUF`"),
        model([b"GGUF", &9_u32.to_le_bytes()[..]].concat(), "version 9"),
        model(gguf(u64::MAX, 0, &[]), "m.gguf"),
        model(gguf(0, u64::MAX, &[]), "ends early"),
        model(gguf(0, 1, &u64::MAX.to_le_bytes()), "ends early"),
        model(gguf(0, 1, &key("a", 9, &array(4, u64::MAX))), "elements in arrays"),
        model(gguf(0, 1, &key("a", 9, &array(8, 1 << 23))), "ends early"),
        model(gguf(0, 1, &key("a", 9, &nested)), "unknown type"),
        model(gguf(0, 1, &key("a", 77, &[])), "unknown type 77"),
        model(gguf(0, 1, &u32_key("general.alignment", 0)), "expected a positive number, found 0"),
        model(gguf(1, 0, &tensor("a", &[u64::MAX, u64::MAX], 0)), "m.gguf"),
        model(gguf(1, 0, &tensor("a", &[0], 0)), "has no elements"),
        model(gguf(1, 0, &tensor("a", &[4], u64::MAX)), "m.gguf"),
        model(gguf(1, 0, &[&1_u64.to_le_bytes()[..], b"a", &u32::MAX.to_le_bytes()].concat()), "m.gguf"),
        with("general.architecture", text_key("general.architecture", "mamba"), "mamba"),
        model(gguf(1, 1, &[text_key("general.architecture", "gpt-oss"), mxfp4].concat()), "its attention has sinks"),
        with("llama.attention.head_count", u32_key("llama.attention.head_count", 0), "head_count"),
        with("llama.block_count", u32_key("llama.block_count", u32::MAX), "m.gguf"),
        with("llama.embedding_length", u32_key("llama.embedding_length", u32::MAX), "m.gguf"),
        with("llama.block_count", text_key("llama.block_count", "two"), "llama.block_count"),
        with("split.count", u32_key("split.count", 2), "one of 2 parts: expected a name"),
        with("tokenizer.ggml.model", text_key("tokenizer.ggml.model", "magic"), "m.gguf"),
    ]
}

fn folders() -> Vec<Case> {
    let sharded = |index: &str, says| {
        let case = Case::model("model.safetensors.index.json", index, says);
        case.arrange(|dir| fs::remove_file(dir.join("m/model.safetensors")).unwrap())
    };
    let linked = |dir: &Path| {
        fs::remove_file(dir.join("m/config.json")).unwrap();
        symlink("config.json", dir.join("m/config.json")).unwrap();
    };
    vec![
        Case::steer("--model empty", "missing config.json").arrange(|dir| fs::create_dir(dir.join("empty")).unwrap()),
        Case::steer("--model v.safetensors", "not a model"),
        Case::steer("--model /dev/zero", "/dev/zero"),
        Case::steer("--model loop.gguf", "loop.gguf").arrange(|dir| symlink("loop.gguf", dir.join("loop.gguf")).unwrap()),
        Case::steer("--model m", "missing config.json").arrange(|dir| fs::create_dir(dir.join("m")).unwrap()),
        Case::model("x", "", "missing config.json").arrange(linked),
        sharded("{}", "missing key `weight_map`"),
        sharded(r#"{"weight_map":{}}"#, "`weight_map` is empty"),
        sharded(r#"{"weight_map":{"a":"../../etc/passwd"}}"#, "expected a file name"),
        sharded(r#"{"weight_map":{"a":"/etc/passwd"}}"#, "expected a file name"),
        sharded(r#"{"weight_map":{"a":".."}}"#, "expected a file name"),
        sharded(r#"{"weight_map":{"a":7}}"#, "expected a file name"),
        sharded(r#"{"weight_map":{"a":"gone.safetensors"}}"#, "missing gone.safetensors"),
        sharded(r#"{"weight_map":{"a":"config.json"}}"#, "config.json"),
    ]
}
