//! The configuration of a checkpoint whose weights are open. It stands above [`Config`] and [`Weights`], because a GGUF file has
//! a part of its configuration among the tensors: the rope factors.

use super::checkpoint::Checkpoint;
use super::config::{Config, RopeScaling};
use super::weights::Weights;
use crate::{Error, Result};

impl Config {
    /// Reads the configuration of a checkpoint whose weights are open: `config.json`, or the GGUF file's metadata.
    pub fn load(checkpoint: &Checkpoint, weights: &Weights) -> Result<Self> {
        let path = match checkpoint {
            Checkpoint::Safetensors { config, .. } => return Self::read(config),
            Checkpoint::Gguf { path, .. } => path,
        };
        let metadata = weights.gguf_metadata().ok_or_else(|| Error::malformed(path, "not opened as a GGUF file"))?;
        let mut config = Self::from_gguf(metadata, |name| weights.gguf_shape(name), path)?;
        let rope = &mut config.ropes[0];
        let pairs = rope.rotary_dim / 2;
        if let Some(factors) = weights.gguf_vector("rope_freqs.weight", pairs)? {
            if rope.scaling != RopeScaling::None {
                return Err(Error::malformed(path, "both `rope_freqs.weight` and a rope scaling: expected one of them"));
            }
            rope.scaling = RopeScaling::Factors(factors);
        }
        if let RopeScaling::LongRope { short_factor, long_factor, .. } = &mut rope.scaling {
            let missing = |name: &str| Error::malformed(path, format!("missing tensor `{name}`"));
            let [short, long] = ["rope_factors_short.weight", "rope_factors_long.weight"];
            *short_factor = weights.gguf_vector(short, pairs)?.ok_or_else(|| missing(short))?;
            *long_factor = weights.gguf_vector(long, pairs)?.ok_or_else(|| missing(long))?;
        }
        config.validate(path)?;
        Ok(config)
    }
}
