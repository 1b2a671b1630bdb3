//! Files built byte by byte: safetensors, GGUF, `.npy`, zip archives with a pickle, as no honest writer makes them.

use std::io::{Cursor, Write};

/// A safetensors file with any header and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A plain vector for layer 1.
pub fn vector(hidden: usize) -> Vec<u8> {
    let header = format!("{{\"layer.1\":{{\"dtype\":\"F32\",\"shape\":[{hidden}],\"data_offsets\":[0,{}]}}}}", 4 * hidden);
    safetensors(&header, &0.5_f32.to_le_bytes().repeat(hidden))
}

/// A GGUF file of version 3: counts, then whatever follows.
pub fn gguf(tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    [b"GGUF", &3_u32.to_le_bytes()[..], &tensors.to_le_bytes(), &keys.to_le_bytes(), rest].concat()
}

fn name(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A metadata entry of a GGUF file.
pub fn key(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&name(key)[..], &kind.to_le_bytes(), value].concat()
}

pub fn text_key(name_: &str, value: &str) -> Vec<u8> {
    key(name_, 8, &name(value))
}

pub fn u32_key(name: &str, value: u32) -> Vec<u8> {
    key(name, 4, &value.to_le_bytes())
}

/// A tensor's entry: f32, of these dimensions, at this offset.
pub fn tensor(name_: &str, dims: &[u64], offset: u64) -> Vec<u8> {
    let dims_bytes: Vec<u8> = dims.iter().flat_map(|n| n.to_le_bytes()).collect();
    let count = (dims.len() as u32).to_le_bytes();
    [&name(name_)[..], &count, &dims_bytes, &0_u32.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// The header of a small Llama, with one key replaced, and no tensor.
pub fn llama_gguf(replaced: &str, value: Vec<u8>) -> Vec<u8> {
    let defaults = [
        ("general.architecture", text_key("general.architecture", "llama")),
        ("llama.block_count", u32_key("llama.block_count", 2)),
        ("llama.embedding_length", u32_key("llama.embedding_length", 32)),
        ("llama.feed_forward_length", u32_key("llama.feed_forward_length", 40)),
        ("llama.attention.head_count", u32_key("llama.attention.head_count", 4)),
        ("llama.context_length", u32_key("llama.context_length", 64)),
        ("llama.vocab_size", u32_key("llama.vocab_size", 64)),
        ("llama.attention.layer_norm_rms_epsilon", key("llama.attention.layer_norm_rms_epsilon", 6, &1e-5_f32.to_le_bytes())),
    ];
    let is_new = defaults.iter().all(|(name, _)| *name != replaced);
    let mut entries: Vec<Vec<u8>> =
        defaults.into_iter().map(|(name, entry)| if name == replaced { value.clone() } else { entry }).collect();
    if is_new {
        entries.push(value);
    }
    gguf(0, entries.len() as u64, &entries.concat())
}

/// A NumPy file with any header.
pub fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A zip archive of stored entries.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        writer.start_file(*name, stored).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The pickle of a bare float tensor as torch writes it, with any length, stride, and key of its storage.
pub fn tensor_pickle(len: u32, stride: u32, storage: &str) -> Vec<u8> {
    let int = |n: u32| [&b"J"[..], &n.to_le_bytes()].concat();
    let word = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    [
        &b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &word("storage"),
        b"ctorch\nFloatStorage\n",
        &word(storage),
        &word("cpu"),
        &int(len),
        b"tQK\x00",
        &int(len),
        b"\x85",
        &int(stride),
        b"\x85\x89ccollections\nOrderedDict\n)RtR.",
    ]
    .concat()
}
