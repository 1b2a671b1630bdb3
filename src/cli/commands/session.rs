//! A model ready to use: its files found, its text encoder made, then its weights loaded.

use std::path::Path;
use std::time::Instant;

use bipo::hub::presets::{self, Preset};
use bipo::hub::resolve::{ModelFiles, ResolveOptions, resolve};
use bipo::machine::bytes::{Bytes, total_memory};
use bipo::machine::device;
use bipo::machine::files::read_text;
use bipo::model::Model;
use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::weights::{WeightStorage, Weights};
use bipo::text::chat::{ChatTemplate, chat_template_of};
use bipo::text::token_ids::TokenIds;
use bipo::text::tokens::{ResponsePrefix, TextEncoder, TextOptions, added_bos, tokenizer_from_file, tokenizer_from_gguf};
use bipo::{Error, Result};
use candle_core::{DType, Device};
use tokenizers::Tokenizer;

use super::memory::{Need, OnDevice};
use crate::args::{ModelArgs, WeightsArg};
use crate::terminal::Log;

/// A model before its weights are read: what can be checked cheaply is here.
pub struct Opened {
    pub files: ModelFiles,
    pub config: Config,
    pub encoder: TextEncoder,
    pub tokens: TokenIds,
    pub preset: Option<&'static Preset>,
    pub device: Device,
    /// What the command takes beside the weights.
    pub beside: Need,
    /// The same on a device with its own memory, with the weights.
    pub on_device: OnDevice,
    weights: Weights,
}

impl Opened {
    /// Finds and opens the model that the arguments name.
    pub fn new(args: &ModelArgs, response_prefix: ResponsePrefix, log: Log) -> Result<Self> {
        let device = device::open(&args.device)?;
        let files = resolve(&args.model, &ResolveOptions { offline: args.offline, quiet: args.quiet })?;
        let weights = Weights::open(&files.checkpoint)?;
        let config = Config::load(&files.checkpoint, &weights)?;
        // Sizes that are not the weights' would be counted with below.
        weights.check("model.embed_tokens.weight", &[config.vocab_size, config.hidden_size])?;
        let tokenizer = tokenizer(&files.checkpoint, &weights)?;
        let tokens = TokenIds::load(&files.checkpoint, &weights, |token| tokenizer.token_to_id(token))?;
        let preset = presets::find(&args.model).or_else(|| presets::find(&files.name));
        let bos = added_bos(&tokenizer)?.or(tokens.bos);
        let template = template(args, &files, &weights, &tokenizer, (bos, tokens.eos.first().copied()), preset, log)?;
        let vocab_size = Some(config.vocab_size);
        let options = TextOptions { bos, eos: tokens.eos.clone(), response_prefix, system: args.system.clone(), vocab_size };
        let encoder = TextEncoder::new(tokenizer, template, options)?;
        let on_device = OnDevice::weights(&config);
        Ok(Self { files, config, encoder, tokens, preset, device, beside: Need::default(), on_device, weights })
    }

    /// Reads or maps the weights. Returns the model and the seconds that it took.
    pub fn load(&self, args: &ModelArgs, log: Log) -> Result<(Model, f64)> {
        let started = Instant::now();
        let dtype = args.dtype.resolve(self.device.is_cpu());
        let storage = self.storage(args.weights, dtype)?;
        if self.device.is_cpu() {
            let need = Need { weights: self.weights.converted_bytes(dtype, storage), ..self.beside };
            need.check((storage == WeightStorage::Dense).then_some("--weights quantized"))?;
        } else if let Some(memory) = device::memory(&self.device) {
            log.info(self.on_device.check(dtype, memory)?);
        }
        let model = Model::load_as(&self.weights, self.config.clone(), dtype, &self.device, storage)?;
        let load_s = started.elapsed().as_secs_f64();
        let (layers, hidden) = (model.num_blocks(), model.config.hidden_size);
        let kind = if storage == WeightStorage::Stored { "as stored".into() } else { format!("{dtype:?}") };
        let (in_memory, mapped) = model.weight_bytes();
        let (in_memory, mapped) = (Bytes(in_memory as u64), Bytes(mapped as u64));
        let place = if mapped.0 > 0 { format!(" {mapped} mapped,") } else { String::new() };
        log.info(format!(
            "{}: {layers} layers, hidden size {hidden}, weights {kind}, {in_memory} in memory,{place} loaded in {load_s:.1} s",
            self.files.name
        ));
        Ok((model, load_s))
    }

    /// The model in another dtype, place or hold than the arguments say, whatever it takes.
    pub fn load_stored_as(&self, dtype: DType, device: &Device, storage: WeightStorage) -> Result<Model> {
        Model::load_as(&self.weights, self.config.clone(), dtype, device, storage)
    }

    /// How the matrices are held. Those of a type that the file does not have are converted, which takes their size.
    fn storage(&self, wanted: WeightsArg, dtype: DType) -> Result<WeightStorage> {
        if !self.device.is_cpu() {
            return match wanted {
                WeightsArg::Quantized => {
                    Err(Error::Argument("--weights quantized needs --device cpu: other devices multiply dense weights".into()))
                }
                WeightsArg::Auto | WeightsArg::Dense => Ok(WeightStorage::Tensors),
            };
        }
        let dense = self.config.matrix_elements().saturating_mul(dtype.size_in_bytes() as u64);
        let fits = total_memory().is_none_or(|memory| dense <= memory.0 / 2);
        Ok(match wanted {
            WeightsArg::Quantized => WeightStorage::Stored,
            WeightsArg::Auto if !fits => WeightStorage::Stored,
            WeightsArg::Auto | WeightsArg::Dense => WeightStorage::Dense,
        })
    }
}

fn tokenizer(checkpoint: &Checkpoint, weights: &Weights) -> Result<Tokenizer> {
    match (checkpoint, weights.gguf_metadata()) {
        (Checkpoint::Safetensors { tokenizer, .. }, _) => tokenizer_from_file(tokenizer),
        (Checkpoint::Gguf { tokenizer: Some(path), .. }, _) => tokenizer_from_file(path),
        (Checkpoint::Gguf { .. }, Some(metadata)) => tokenizer_from_gguf(metadata),
        (Checkpoint::Gguf { path, .. }, None) => Err(Error::malformed(path, "not opened as a GGUF file")),
    }
}

fn template(
    args: &ModelArgs,
    files: &ModelFiles,
    weights: &Weights,
    tokenizer: &Tokenizer,
    (bos, eos): (Option<u32>, Option<u32>),
    preset: Option<&Preset>,
    log: Log,
) -> Result<ChatTemplate> {
    let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
    let (bos, eos) = (text_of(bos), text_of(eos));
    let (bos, eos) = (bos.as_deref(), eos.as_deref());
    if args.template != "auto" {
        let path = Path::new(&args.template);
        return if path.is_file() {
            ChatTemplate::from_file(path, bos, eos)
        } else {
            ChatTemplate::builtin(&args.template, bos, eos)
        };
    }
    match &files.checkpoint {
        Checkpoint::Gguf { .. } => {
            let source = weights.gguf_metadata().and_then(|metadata| metadata.get("tokenizer.chat_template"));
            if let Some(source) = source.and_then(|value| value.to_string().ok()) {
                return ChatTemplate::from_source(&files.name, source, bos, eos);
            }
        }
        Checkpoint::Safetensors { chat_template: Some(path), .. } => return ChatTemplate::from_file(path, bos, eos),
        Checkpoint::Safetensors { tokenizer_config: Some(path), .. } => {
            let text = read_text(path)?;
            let value = serde_json::from_str(&text).map_err(|error| Error::malformed(path, error.to_string()))?;
            if let Some(source) = chat_template_of(&value) {
                return ChatTemplate::from_source(&files.name, &source, bos, eos);
            }
        }
        Checkpoint::Safetensors { .. } => {}
    }
    let name = preset.and_then(|preset| preset.template).unwrap_or("plain");
    log.warn(format!("{} has no chat template of its own: using {name} (choose one with --template)", files.name));
    ChatTemplate::builtin(name, bos, eos)
}
