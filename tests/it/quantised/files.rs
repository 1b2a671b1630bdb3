//! GGUF files of random weights: a small model of each family as llama.cpp's converter lays it out, with matrices of one type.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of token ids.
pub const VOCAB: usize = 320;
const BLOCKS: usize = 2;
const EXPERTS: usize = 4;
/// Number of heads of queries; there are half as many of keys and values.
const HEADS: usize = 4;

/// The families whose files have something of their own. Mixtral's architecture is Llama's in such a file.
pub const FAMILIES: [&str; 12] =
    ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2", "olmo3", "granite", "smollm3", "mixtral", "qwen3moe"];

/// A file, as it is written.
pub struct Contents {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, QTensor)>,
}

impl Contents {
    /// A model of `family` and this hidden size whose matrices are of type `dtype`.
    pub fn new(family: &str, hidden: usize, dtype: GgmlDType) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        // As wide as gives products of about the size of their operands.
        let width = 0.12 * (256.0 / hidden as f32).sqrt();
        let mut tensor = |(name, shape): (String, Vec<usize>)| {
            let is_vector = shape.len() == 1;
            let is_norm = name.ends_with("norm.weight");
            let of_range = |x: f32| if is_norm { 1.0 + x } else { x };
            let data: Vec<f32> =
                (0..shape.iter().product::<usize>()).map(|_| of_range(rng.random_range(-width..width))).collect();
            // Routers are never quantised.
            let dtype = if is_vector || name.contains("ffn_gate_inp") { GgmlDType::F32 } else { dtype };
            let tensor = Tensor::from_vec(data, shape, &Device::Cpu).unwrap();
            (name, QTensor::quantize(&tensor, dtype).unwrap())
        };
        let mut tensors: Vec<(String, Vec<usize>)> =
            vec![("token_embd.weight".to_owned(), vec![VOCAB, hidden]), ("output_norm.weight".to_owned(), vec![hidden])];
        for block in 0..BLOCKS {
            tensors.extend(of_block(family, hidden).into_iter().map(|(name, shape)| (format!("blk.{block}.{name}"), shape)));
        }
        Self { metadata: metadata(family, hidden), tensors: tensors.into_iter().map(&mut tensor).collect() }
    }

    /// The same numbers in f32.
    pub fn decoded(&self) -> Self {
        let decoded = |(name, tensor): &(String, QTensor)| {
            let tensor = tensor.dequantize(&Device::Cpu).unwrap();
            (name.clone(), QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        };
        Self { metadata: self.metadata.clone(), tensors: self.tensors.iter().map(decoded).collect() }
    }

    pub fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let metadata: Vec<(&str, &Value)> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let path = dir.join(name);
        gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
        path
    }
}

/// Names and shapes of a block's tensors.
fn of_block(family: &str, hidden: usize) -> Vec<(&'static str, Vec<usize>)> {
    let (head, kv, inner) = (hidden / HEADS, hidden / 2, 2 * hidden);
    let mut tensors = match family {
        "phi3" => vec![("attn_qkv.weight", vec![hidden + 2 * kv, hidden])],
        _ => vec![
            ("attn_q.weight", vec![hidden, hidden]),
            ("attn_k.weight", vec![kv, hidden]),
            ("attn_v.weight", vec![kv, hidden]),
        ],
    };
    tensors.push(("attn_output.weight", vec![hidden, hidden]));
    tensors.extend(match family {
        "phi3" => vec![("ffn_up.weight", vec![2 * inner, hidden]), ("ffn_down.weight", vec![hidden, inner])],
        "mixtral" | "qwen3moe" => vec![
            ("ffn_gate_inp.weight", vec![EXPERTS, hidden]),
            ("ffn_gate_exps.weight", vec![EXPERTS, inner, hidden]),
            ("ffn_up_exps.weight", vec![EXPERTS, inner, hidden]),
            ("ffn_down_exps.weight", vec![EXPERTS, hidden, inner]),
        ],
        _ => vec![
            ("ffn_gate.weight", vec![inner, hidden]),
            ("ffn_up.weight", vec![inner, hidden]),
            ("ffn_down.weight", vec![hidden, inner]),
        ],
    });
    let norms: &[&str] = match family {
        "gemma2" | "gemma3" => &["attn_norm.weight", "post_attention_norm.weight", "ffn_norm.weight", "post_ffw_norm.weight"],
        "olmo2" | "olmo3" => &["post_attention_norm.weight", "post_ffw_norm.weight"],
        _ => &["attn_norm.weight", "ffn_norm.weight"],
    };
    tensors.extend(norms.iter().map(|name| (*name, vec![hidden])));
    tensors.extend(match family {
        "qwen3" | "qwen3moe" | "gemma3" => vec![("attn_q_norm.weight", vec![head]), ("attn_k_norm.weight", vec![head])],
        "olmo2" | "olmo3" => vec![("attn_q_norm.weight", vec![hidden]), ("attn_k_norm.weight", vec![kv])],
        "qwen2" => vec![("attn_q.bias", vec![hidden]), ("attn_k.bias", vec![kv]), ("attn_v.bias", vec![kv])],
        _ => Vec::new(),
    });
    tensors
}

fn metadata(family: &str, hidden: usize) -> Vec<(String, Value)> {
    let arch = match family {
        "mixtral" => "llama",
        "olmo3" => "olmo2",
        family => family,
    };
    let number = |n: usize| Value::U32(n as u32);
    let window = || ("attention.sliding_window", number(5));
    let experts = || [("expert_count", number(EXPERTS)), ("expert_used_count", number(2))];
    let more = match family {
        "gemma2" => {
            let caps = [("attn_logit_softcapping", 5.0), ("final_logit_softcapping", 8.0)];
            caps.map(|(key, cap)| (key, Value::F32(cap))).into_iter().chain([window()]).collect()
        }
        "gemma3" => vec![window(), ("rope.freq_base", Value::F32(1e6)), ("attention.sliding_window_pattern", number(2))],
        "phi3" => vec![("rope.dimension_count", number(hidden / HEADS / 2))],
        "olmo3" => {
            let pattern = Value::Array(vec![Value::Bool(true), Value::Bool(false)]);
            vec![window(), ("attention.sliding_window_pattern", pattern), ("rope.freq_base", Value::F32(5e5))]
        }
        "granite" => [("attention.scale", 0.1), ("embedding_scale", 6.0), ("residual_scale", 0.3), ("logit_scale", 4.0)]
            .map(|(key, factor)| (key, Value::F32(factor)))
            .into(),
        "mixtral" => experts().into(),
        "qwen3moe" => experts().into_iter().chain([("expert_feed_forward_length", number(2 * hidden))]).collect(),
        _ => Vec::new(),
    };
    let sizes = [
        ("embedding_length", hidden),
        ("block_count", BLOCKS),
        ("feed_forward_length", 2 * hidden),
        ("context_length", 128),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", HEADS / 2),
    ];
    let sizes = sizes.map(|(key, size)| (key, number(size))).into_iter();
    let keys = sizes.chain([("attention.layer_norm_rms_epsilon", Value::F32(1e-5))]).chain(more);
    let keys = keys.map(|(key, value)| (format!("{arch}.{key}"), value));
    [("general.architecture".to_owned(), Value::String(arch.to_owned()))].into_iter().chain(keys).collect()
}
