//! A model ready to use, and whether what is to be done with it fits the memory. Trains and generates nothing itself.
//!
//! Begin with [`Session`]: `open` finds the files and makes everything but the weights, `load` reads them once it is known
//! what else will take memory, which is a [`Demand`].

mod cache_place;
pub mod demand;
pub mod fit;
mod options;
mod placement;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokenizers::Tokenizer;

use crate::data::Message;
use crate::hub::options::FetchOptions;
use crate::hub::presets::{self, Preset};
use crate::hub::resolve::{ModelFiles, resolve};
use crate::machine::bytes::Bytes;
use crate::machine::device;
use crate::machine::files::read_text;
use crate::model::Model;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Config;
use crate::model::split::Split;
use crate::model::weights::{WeightStorage, Weights};
use crate::ops::check_kernel;
use crate::text::chat::{ChatTemplate, chat_template_of};
use crate::text::token_ids::TokenIds;
use crate::text::tokens::{ResponsePrefix, TextEncoder, TextOptions, added_bos, tokenizer_from_file, tokenizer_from_gguf};
use crate::{Error, Result};

pub use cache_place::CachePlace;
pub use demand::{Demand, LowerBlocks};
pub use options::{DTypeChoice, SessionOptions, WeightsChoice};
pub use placement::Placement;

use fit::{Fit, Shortage};

/// Texts that are generated at once: one pass over the weights serves them all. The more there are, the smaller a part of each product
/// is packing the weight; but with twice as many, a sweep of a few hundred texts would end with few of them under way.
const STREAMS: usize = 128;

/// The same where weights stay as they are stored: they are decoded for each dozen of rows, and more texts gain nothing.
const STREAMS_OF_STORED: usize = 48;

/// A model before its weights are read: what can be checked cheaply is here.
pub struct Session {
    /// Files of the model.
    pub files: ModelFiles,
    /// Sizes and architecture of the model.
    pub config: Config,
    /// The way from text to token ids and back.
    pub encoder: TextEncoder,
    /// Ids that begin a sequence and end an answer.
    pub tokens: TokenIds,
    /// What suits the model, where it is a known one.
    pub preset: Option<&'static Preset>,
    /// Where and how the model computes.
    pub placement: Placement,
    /// The built-in chat template that stands in, where the model's files have none and the options name none.
    pub fallback_template: Option<&'static str>,
    /// What the chat template does that a user may not expect.
    pub surprises: Vec<Surprise>,
    weights: Arc<Weights>,
}

/// Something that a chat template does and that a user may not expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surprise {
    /// The template writes nothing of the system prompt.
    DropsSystem,
    /// The template's prompts end inside a thought, and it reads no variable that would close it.
    EndsInThought,
    /// The template gives no consistent form of an answer, so that the rule for any template stands in.
    NoFormOfAnswer,
}

/// A model whose weights are read. Displayed, it is a line on what was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The model with its weights.
    pub model: Model,
    /// Seconds that loading took.
    pub load_s: f64,
    name: String,
    placement: Placement,
}

impl Session {
    /// Finds a model's files, reads its configuration, tokenizer and chat template, and opens the device; no weights yet.
    ///
    /// # Errors
    /// An option is wrong, or a file cannot be found, downloaded or understood.
    pub fn open(options: SessionOptions) -> Result<Self> {
        check_kernel()?;
        let devices = device::open_all(&options.device)?;
        let files = resolve(&options.model, &FetchOptions { offline: options.offline, progress: options.progress })?;
        let weights = Weights::open(&files.checkpoint)?;
        let config = Config::load(&files.checkpoint, &weights)?;
        // Sizes that are not the weights' would be counted with below.
        weights.check(&config)?;
        let split = Split::new(devices, options.split.as_deref(), &config)?;
        let placement = Placement::new(split, options.dtype, options.weights, &config)?;
        let tokenizer = tokenizer(&files.checkpoint, &weights)?;
        let mut tokens = TokenIds::load(&files.checkpoint, &weights, |token| tokenizer.token_to_id(token))?;
        let preset = presets::find(&options.model).or_else(|| presets::find(&files.name));
        let added_bos = added_bos(&tokenizer)?.or(tokens.bos);
        let bos = added_bos.or(tokens.named_bos);
        let special = SpecialTexts::of(&tokenizer, bos, tokens.eos.first().copied());
        let (mut template, fallback_template) = match template(&options.template, &files, &weights, &special)? {
            Some(template) => (template, None),
            None => {
                let name = preset.and_then(|preset| preset.template).unwrap_or("plain");
                (ChatTemplate::builtin(name, special.bos(), special.eos())?, Some(name))
            }
        };
        template.set_variables(options.template_variables);
        let mut surprises = Vec::new();
        surprises.extend(template.close_thought().then_some(Surprise::EndsInThought));
        let finds_form = options.response_prefix == ResponsePrefix::Auto && template.name() != "plain";
        let text_options = TextOptions {
            bos,
            adds_bos: added_bos.is_some(),
            eos: tokens.eos,
            response_prefix: options.response_prefix,
            system: options.system,
            system_in_user: options.system_in_user,
            vocab_size: config.vocab_size,
        };
        let encoder = TextEncoder::new(tokenizer, template, text_options)?;
        tokens.eos = encoder.eos_ids().to_vec();
        // A system prompt that the template refuses is told before anything else is read.
        surprises.extend(encoder.drops_system(&[Message::new("user", "Hi")])?.then_some(Surprise::DropsSystem));
        surprises.extend((finds_form && !encoder.follows_template()).then_some(Surprise::NoFormOfAnswer));
        let weights = Arc::new(weights);
        Ok(Self { files, config, encoder, tokens, preset, placement, fallback_template, surprises, weights })
    }

    /// Returns all files that the model is read from.
    pub fn read_from(&self) -> Vec<PathBuf> {
        let beside = self.files.checkpoint.beside_weights();
        beside.into_iter().chain(self.weights.paths()).map(Path::to_path_buf).collect()
    }

    /// Reads or maps the weights, for what `demand` says.
    ///
    /// # Errors
    /// There is not enough memory, or a tensor is missing or has another shape than the configuration says.
    pub fn load(&self, demand: &Demand) -> Result<Loaded> {
        self.load_at(&self.placement, demand)
    }

    /// Loads the model like [`Session::load`], with another placement than the options say.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn load_at(&self, placement: &Placement, demand: &Demand) -> Result<Loaded> {
        let started = Instant::now();
        self.check_at(placement, demand)?;
        let Placement { split, dtype, storage } = placement;
        let (weights, config) = (&self.weights, self.config.clone());
        let model = match demand.in_file() {
            0 => Model::load_divided(weights, config, *dtype, split, *storage)?,
            first => Model::load_offloaded(weights, config, *dtype, split, *storage, first)?,
        };
        let load_s = started.elapsed().as_secs_f64();
        Ok(Loaded { model, load_s, name: self.files.name.clone(), placement: placement.clone() })
    }

    /// Whether [`Session::load`] would find the memory that `demand` takes. → what each device with its own memory has room for;
    /// none where the model computes in main memory.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn check(&self, demand: &Demand) -> Result<Vec<Fit>, Shortage> {
        self.check_at(&self.placement, demand)
    }

    /// Tokens whose keys and values `memory` holds, with the residual that is kept of a prompt's tokens.
    pub fn tokens_in(&self, memory: Bytes) -> usize {
        let numbers = Demand::default().keys_a_token(&self.config) + self.config.hidden_size as u64;
        let a_token = numbers * self.placement.activations().size_in_bytes() as u64;
        (memory.0 / a_token.max(1)) as usize
    }

    /// The texts that are generated at once: as many as gain by it, but `wanted` of them or fewer and at least `least`, for which there
    /// is memory. `demand` says what so many take.
    pub fn most_streams(&self, wanted: usize, least: usize, demand: impl Fn(usize) -> Demand) -> usize {
        let usual = if self.placement.storage == WeightStorage::Stored { STREAMS_OF_STORED } else { STREAMS };
        let mut streams = wanted.min(usual).max(least);
        while streams > least && self.check(&demand(streams)).is_err() {
            streams = (streams / 2).max(least);
        }
        streams
    }

    fn check_at(&self, placement: &Placement, demand: &Demand) -> Result<Vec<Fit>, Shortage> {
        let weights = Bytes(self.weights.converted_bytes(&self.config, placement.dtype, placement.storage));
        placement.check(&self.config, weights, demand)
    }
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { model, load_s, name, placement } = self;
        let Placement { dtype, storage, .. } = placement;
        let (layers, hidden) = (model.num_blocks(), model.config.hidden_size);
        let kind = if *storage == WeightStorage::Stored { "as stored".into() } else { format!("{dtype:?}") };
        let (in_memory, mapped) = model.weight_bytes();
        let (in_memory, mapped) = (Bytes(in_memory as u64), Bytes(mapped as u64));
        let place = if mapped.0 > 0 { format!(" {mapped} mapped,") } else { String::new() };
        let counts: Vec<String> = placement.split.stages().iter().map(|stage| stage.blocks.len().to_string()).collect();
        let place = if counts.len() > 1 { format!("{place} divided {} between devices,", counts.join("+")) } else { place };
        write!(
            f,
            "{name}: {layers} layers, hidden size {hidden}, weights {kind}, {in_memory} in memory,{place} loaded in {load_s:.1} s"
        )
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

/// The special tokens that templates write, as text.
struct SpecialTexts {
    bos: Option<String>,
    eos: Option<String>,
}

impl SpecialTexts {
    fn of(tokenizer: &Tokenizer, bos: Option<u32>, eos: Option<u32>) -> Self {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        Self { bos: text(bos), eos: text(eos) }
    }

    fn bos(&self) -> Option<&str> {
        self.bos.as_deref()
    }

    fn eos(&self) -> Option<&str> {
        self.eos.as_deref()
    }
}

/// The template that is named, else the one of the model's files; none where they have none.
fn template(named: &str, files: &ModelFiles, weights: &Weights, special: &SpecialTexts) -> Result<Option<ChatTemplate>> {
    let (bos, eos) = (special.bos(), special.eos());
    if named != "auto" {
        let path = Path::new(named);
        let template = match path.is_file() {
            true => ChatTemplate::from_file(path, bos, eos),
            false => ChatTemplate::builtin(named, bos, eos),
        };
        return template.map(Some);
    }
    let source = match &files.checkpoint {
        Checkpoint::Gguf { .. } => {
            let source = weights.gguf_metadata().and_then(|metadata| metadata.get("tokenizer.chat_template"));
            source.and_then(|value| value.to_string().ok()).cloned()
        }
        Checkpoint::Safetensors { chat_template: Some(path), .. } => return ChatTemplate::from_file(path, bos, eos).map(Some),
        Checkpoint::Safetensors { tokenizer_config: Some(path), .. } => {
            let text = read_text(path)?;
            let value = serde_json::from_str(&text).map_err(|error| Error::malformed(path, error.to_string()))?;
            chat_template_of(&value)
        }
        Checkpoint::Safetensors { .. } => None,
    };
    source.map(|source| ChatTemplate::from_source(&files.name, &source, bos, eos)).transpose()
}

#[cfg(test)]
mod tests;
