//! Functions that the fuzz targets share: they write an input to a file, since parsers take paths, and use what was read from
//! it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bipo::data::{LoadOptions, Source, load};
use bipo::hub::options::FetchOptions;
use bipo::steering::vector::{Format, SteeringVector};
use libfuzzer_sys::Corpus;
use tempfile::TempDir;

/// Writes the input to a file of this name in a temporary folder of this process.
pub fn file(name: &str, data: &[u8]) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let memory = Path::new("/dev/shm");
    let new = || if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    let path = FOLDER.get_or_init(|| new().expect("a folder for temporary files")).path().join(name);
    std::fs::write(&path, data).expect("room for a temporary file");
    path
}

/// Reads the input as a data set whose name ends in `extension`.
pub fn dataset(extension: &str, data: &[u8]) {
    let source = Source::File(file(&format!("input.{extension}"), data));
    for limit in [None, Some(2)] {
        let _ = load(&source, &LoadOptions { limit, fetch: FetchOptions::offline(), ..LoadOptions::default() });
    }
}

/// Reads the input as a vector, and encodes it in every format that can hold it; bipo's own format must give the same numbers
/// back. Inputs that do not begin like the target's format are rejected, since other targets cover them.
pub fn vector(data: &[u8], begins: impl Fn(&[u8]) -> bool) -> Corpus {
    if !begins(data) {
        return Corpus::Reject;
    }
    let path = file("input", data);
    let _ = SteeringVector::read(&path, None);
    let Ok(vector) = SteeringVector::read_any(&path, None).or_else(|_| SteeringVector::read_any(&path, Some(1))) else {
        return Corpus::Keep;
    };
    for format in [Format::Safetensors, Format::Pt, Format::Gguf, Format::Svec, Format::Npy, Format::Json] {
        let Ok(encoded) = vector.encode(format, &path) else { continue };
        if format == Format::Safetensors {
            let again = SteeringVector::read_any(&file("again", &encoded.bytes), None).expect("bipo reads what it writes");
            assert_eq!(bits(&again), bits(&vector));
        }
    }
    Corpus::Keep
}

fn bits(vector: &SteeringVector) -> Vec<(usize, Vec<u32>)> {
    vector.layers.iter().map(|(layer, v)| (*layer, v.iter().map(|x| x.to_bits()).collect())).collect()
}

/// Parses the input as JSON.
pub fn json(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text).ok()
}

/// Encodes a text, and decodes its ids, with a tokenizer that was read from the input.
pub fn encode(tokenizer: &tokenizers::Tokenizer) {
    if let Ok(encoding) = tokenizer.encode("Hello wörld, 123\n\n <s>", true) {
        let _ = tokenizer.decode(encoding.get_ids(), false);
    }
}
