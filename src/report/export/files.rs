//! The files that engines read: requests, control vectors, PyTorch's archives, and a script. Each is what the engine's own loader
//! expects, key for key; tests/it/export.rs names the sources.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tokens::{OfPrompt, Tokens};
use super::{Export, ExportedFile, MAX_TOKENS, PROMPT};
use crate::Result;
use crate::steering::vector::Format;
use crate::steering::vector::pt_writer::{Pickled, archive};

pub(super) type Files = Vec<ExportedFile>;

/// What the merged model is called by its server and in requests.
pub(super) const SERVED: &str = "bipo-merged";

const GGUF: &str = "vector.gguf";

/// The request that the README's example sends, with one more field.
fn request(model: &str, field: Option<(&str, Value)>) -> ExportedFile {
    let mut body = json!({
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    });
    if let Some((key, value)) = field {
        body[key] = value;
    }
    ExportedFile { name: "request.json", what: "the body of a request", bytes: format!("{body:#}\n").into_bytes() }
}

/// The numbers in the order of memory, little-endian f32, as base64.
fn encoded<'a>(numbers: impl IntoIterator<Item = &'a f32>) -> String {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

/// `SteeringVector` of vllm-lens, in a list, as the JSON text that `vllm_xargs` can carry.
pub(super) fn of_vllm_lens(export: &Export) -> Result<Files> {
    let layers = &export.vector.layers;
    let vectors = json!([{
        "activations": {
            "data": encoded(layers.values().flatten()),
            "dtype": "float32",
            "original_dtype": "torch.float32",
            "shape": [layers.len(), export.vector.hidden_size()],
        },
        "layer_indices": layers.keys().collect::<Vec<_>>(),
        "scale": export.magnitude,
        "norm_match": false,
    }]);
    let field = json!({"apply_steering_vectors": vectors.to_string()});
    Ok(vec![request(export.model, Some(("vllm_xargs", field)))])
}

/// `SteeringSpec` of EasySteer, and the file that it names.
pub(super) fn of_easysteer(export: &Export) -> Result<Files> {
    let layers = &export.vector.layers;
    let is_in_request = layers.contains_key(&0);
    let mut vector = json!({
        "algorithm": algorithm(export),
        "scale": export.magnitude,
        "layers": layers.keys().collect::<Vec<_>>(),
        "normalize": false,
        "apply": apply(export.tokens()),
    });
    match is_in_request {
        true => vector["data"] = direction_payload(export),
        false => vector["source"] = GGUF.into(),
    }
    let mut files = vec![request(export.model, Some(("steering", json!({"vectors": [vector], "conflict": "priority"}))))];
    if !is_in_request {
        files.push(gguf(export)?);
    }
    Ok(files)
}

/// What EasySteer is to do with the vector.
pub(super) fn algorithm(export: &Export) -> &'static str {
    if export.is_taken_out() { "erase" } else { "direct" }
}

/// `ApplySpec` of EasySteer.
fn apply(tokens: Tokens) -> Value {
    let mut spec = match tokens.prompt {
        OfPrompt::All => json!({"prompt": "all"}),
        OfPrompt::Last(1) => json!({"prompt_positions": [-1]}),
        OfPrompt::Last(count) => json!({"prompt_window": [-i32::from(count), null]}),
        OfPrompt::None => json!({}),
    };
    if tokens.generated {
        spec["generation"] = "all".into();
    }
    spec
}

/// `DirectionVector` of EasySteer as it travels. Its hash is over the kind and version, then over the name, the shape as Python prints
/// it, and the bytes of each tensor, by name.
fn direction_payload(export: &Export) -> Value {
    let (kind, version) = ("direction", 1);
    let mut tensors: Vec<(String, &Vec<f32>)> =
        export.vector.layers.iter().map(|(layer, v)| (format!("layer.{layer}"), v)).collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut hash = Sha256::new_with_prefix(format!("{kind}:{version}"));
    let mut wire = json!({});
    for (name, v) in tensors {
        hash.update(&name);
        hash.update(format!("({},)", v.len()));
        v.iter().for_each(|x| hash.update(x.to_le_bytes()));
        wire[name] = json!({"shape": [v.len()], "data": encoded(v)});
    }
    let sha256 = format!("{:x}", hash.finalize());
    json!({"version": version, "kind": kind, "tensors": wire, "extra": {}, "sha256": sha256})
}

/// What a server of the merged model is asked.
pub(super) fn of_merged(_: &Export) -> Result<Files> {
    Ok(vec![request(SERVED, None)])
}

pub(super) fn of_llama_cpp(export: &Export) -> Result<Files> {
    Ok(vec![gguf(export)?, request(export.model, None)])
}

fn gguf(export: &Export) -> Result<ExportedFile> {
    let bytes = export.vector.encode(Format::Gguf, Path::new(GGUF))?.bytes;
    Ok(ExportedFile { name: GGUF, what: "the vector as a control vector", bytes })
}

/// A dict for each module, as `SteeredModel` of lm-evaluation-harness reads them. To clamp what lies along a direction to 0 is to take it
/// out. Versions up to 0.4.9.1 ask for `bias`.
pub(super) fn of_lm_eval(export: &Export) -> Result<Files> {
    let (action, coefficient) = if export.is_taken_out() { ("clamp", 0.0) } else { ("add", export.magnitude) };
    let hooks = export.vector.layers.iter().map(|(layer, v)| {
        let items = [
            ("steering_vector", Pickled::Tensor(v)),
            ("steering_coefficient", Pickled::Number(coefficient)),
            ("action", Pickled::Text(action)),
            ("bias", Pickled::None),
            ("head_index", Pickled::None),
        ];
        (format!("layers.{layer}"), Pickled::Dict(items.map(|(key, value)| (key.to_owned(), value)).into()))
    });
    let name = "steer.pt";
    let bytes = archive(&Pickled::Dict(hooks.collect()), Path::new(name))?;
    Ok(vec![ExportedFile { name, what: "the vector with its hook and factor", bytes }])
}

/// A script that runs pyvene, and the vector that it reads.
pub(super) fn of_pyvene(export: &Export) -> Result<Files> {
    let operation = match export.is_taken_out() {
        true => "h - m * (h @ v / (v @ v))[..., None] * v",
        false => "h + m * v",
    };
    let Tokens { prompt, generated } = export.tokens();
    let tokens = match (prompt, generated) {
        (OfPrompt::All, true) => "intervene_on_prompt=True".to_owned(),
        (OfPrompt::None, _) => "intervene_on_prompt=False".to_owned(),
        (OfPrompt::All, false) => on_prompt("range(n)"),
        (OfPrompt::Last(count), _) => on_prompt(&format!("range(max(n - {count}, 0), n)")),
    };
    let script = include_str!("steer.py")
        .replace("{model}", &python(export.model))
        .replace("{operation}", operation)
        .replace("{tokens}", &tokens)
        .replace("{magnitude}", &export.magnitude.to_string())
        .replace("{max_tokens}", &MAX_TOKENS.to_string());
    let vector = ExportedFile {
        name: "vector.safetensors",
        what: "the vector",
        bytes: export.vector.encode(Format::Safetensors, Path::new("vector.safetensors"))?.bytes,
    };
    Ok(vec![ExportedFile { name: "steer.py", what: "an example that runs", bytes: script.into_bytes() }, vector])
}

/// Arguments of `generate` that steer these tokens of the prompt: for each layer, for each text of the batch.
fn on_prompt(tokens: &str) -> String {
    format!("intervene_on_prompt=True, unit_locations={{\"base\": [[list({tokens})]] * len(vectors)}}")
}

/// A text as Python's source has it.
fn python(text: &str) -> String {
    Value::from(text).to_string()
}
