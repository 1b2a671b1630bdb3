//! The layers that a run steers: `13`, `10,13,16`, `10..16`, `10-16`, `8..20:4` or `all`. One vector is learned for each.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Steered layers, 0-based: at least one, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Layers(Vec<usize>);

impl Layers {
    /// The lowest: the first block whose output changes.
    pub fn lowest(&self) -> usize {
        self.0[0]
    }

    /// The highest steered layer.
    pub fn highest(&self) -> usize {
        self.0[self.0.len() - 1]
    }

    /// All steered layers, ascending.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// Checks that a model of `num_blocks` blocks has them.
    ///
    /// # Errors
    /// The highest is not below `num_blocks`.
    pub fn check(&self, num_blocks: usize) -> Result<()> {
        check_layer(self.highest(), num_blocks, "model")
    }

    /// Takes vectors that lie one behind the other apart. `v (layers·H)` → `(H)` each.
    pub fn split(&self, v: &[f32]) -> BTreeMap<usize, Vec<f32>> {
        let hidden = v.len() / self.0.len();
        self.0.iter().copied().zip(v.chunks_exact(hidden.max(1)).map(<[f32]>::to_vec)).collect()
    }
}

/// Checks that `model`, of `num_blocks` blocks, has a layer.
pub(crate) fn check_layer(layer: usize, num_blocks: usize, model: &str) -> Result<()> {
    if layer < num_blocks {
        return Ok(());
    }
    let last = num_blocks.saturating_sub(1);
    Err(Error::Argument(format!("layer {layer} out of range: {model} has {num_blocks} layers, 0 to {last}")))
}

impl From<usize> for Layers {
    fn from(layer: usize) -> Self {
        Self(vec![layer])
    }
}

impl TryFrom<Vec<usize>> for Layers {
    type Error = Error;

    fn try_from(mut layers: Vec<usize>) -> Result<Self> {
        layers.sort_unstable();
        if layers.is_empty() {
            return Err(Error::Argument("no layer given: expected at least one".into()));
        }
        match layers.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::Argument(format!("layer {} is named twice", pair[0]))),
            None => Ok(Self(layers)),
        }
    }
}

impl From<Layers> for Vec<usize> {
    fn from(layers: Layers) -> Self {
        layers.0
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

/// What a user may write: some layers, or all that the model has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerList {
    /// Every layer.
    All,
    /// The layers that are listed.
    These(Layers),
}

/// More than any model has; keeps a range from filling the memory.
const HIGHEST: usize = 9999;

impl LayerList {
    /// The layers, in a model of `num_blocks` blocks.
    ///
    /// # Errors
    /// One of them is not below `num_blocks`.
    pub fn of(&self, num_blocks: usize) -> Result<Layers> {
        match self {
            Self::All => Layers::try_from((0..num_blocks).collect::<Vec<_>>()),
            Self::These(layers) => layers.check(num_blocks).map(|()| layers.clone()),
        }
    }
}

impl FromStr for LayerList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        let mut layers = Vec::new();
        for part in text.split(',') {
            // Both ends are included, as in a range of magnitudes, and a step follows a colon.
            let (ends, step) = part.split_once(':').map_or((part, None), |(ends, step)| (ends, Some(step)));
            let range = ends.split_once("..").or_else(|| ends.split_once('-'));
            let (first, last) = range.unwrap_or((ends, ends));
            let (first, last) = (number(text, first)?, number(text, last)?);
            if first > last {
                return Err(Error::Argument(format!("layers {text:?}: {first} is above {last}")));
            }
            let step = step.map_or(Ok(1), |step| number(text, step))?;
            if step == 0 || range.is_none() && part != ends {
                return Err(Error::Argument(format!("layers {text:?}: expected a range and a step above 0, as 8..20:4")));
            }
            layers.extend((first..=last).step_by(step));
        }
        Ok(Self::These(layers.try_into()?))
    }
}

fn number(text: &str, part: &str) -> Result<usize> {
    let expected = || Error::Argument(format!("layers {text:?}: {part:?} is no layer; expected 10,13,16 or 10..16 or all"));
    part.trim().parse().ok().filter(|layer| *layer <= HIGHEST).ok_or_else(expected)
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
