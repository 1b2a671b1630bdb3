//! Whether a run fits the memory that is free, the machine's or a device's own, counted from shapes before the weights are read:
//! what it needs, what there is, and the flag that helps. An estimate of the large parts alone; the small ones have room in
//! what the system can free.

use bipo::machine::bytes::{Bytes, available_memory};
use bipo::machine::device::DeviceMemory;
use bipo::model::config::Config;
use bipo::session::cache_place::CachePlace;
use bipo::session::fit::{self, Choice, Fit, Run};
use bipo::text::tokens::EncodedPair;
use bipo::{Error, Result};
use candle_core::DType;

use super::session::Opened;
use crate::args::RunArgs;

/// What each part of a run takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Matrices that are held in memory; mapped files can be read again and count nothing.
    pub weights: u64,
    /// Residuals of the pairs, as far as they are kept in memory.
    pub cache: u64,
    /// What a step keeps for its gradient.
    pub activations: u64,
}

impl Need {
    /// Beside the weights, what training on these pairs takes: residuals at one layer, and one step.
    pub fn training(args: &RunArgs, opened: &Opened, pairs: &[EncodedPair], cache_memory: Bytes) -> Self {
        let config = &opened.config;
        let run = Run::training(config, rows_of(pairs), 1, config.num_hidden_layers);
        let need = run.need(&Choice { dtype: DType::F32, batch_size: args.batch_size, cache: CachePlace::Device });
        Self { weights: 0, cache: need.cache.0.min(cache_memory.0), activations: need.activations.0 }
    }

    fn total(&self) -> u64 {
        self.weights.saturating_add(self.cache).saturating_add(self.activations)
    }

    /// Refuses what does not fit, where it is known what does.
    pub fn check(&self, can_stay_mapped: Option<&str>) -> Result<()> {
        match available_memory() {
            Some(available) if available.0 < self.total() => Err(Error::Memory(self.problem(available, can_stay_mapped))),
            _ => Ok(()),
        }
    }

    /// `mapped`: the flag with which the weights would stay in their file.
    fn problem(&self, available: Bytes, mapped: Option<&str>) -> String {
        let parts = [("weights", self.weights), ("activation cache", self.cache), ("activations of a step", self.activations)];
        let parts: Vec<String> =
            parts.into_iter().filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| format!("{name} {}", Bytes(bytes))).collect();
        let helps = [
            mapped.filter(|_| self.weights > 0).map(|flag| format!("{flag} leaves the weights in their file")),
            (self.cache > self.total() / 4).then(|| "--cache-memory 0 puts the cache into a file".to_owned()),
            (self.activations > self.total() / 4).then(|| "--max-length or --batch-size 1 makes a step smaller".to_owned()),
        ];
        let mut helps: Vec<String> = helps.into_iter().flatten().collect();
        if helps.is_empty() {
            helps.push("a smaller model fits".to_owned());
        }
        format!(
            "not enough memory: about {} are needed ({}), {available} are free; {}",
            Bytes(self.total()),
            parts.join(", "),
            helps.join("; ")
        )
    }
}

/// Rows of each pair, its prompt once.
pub fn rows_of(pairs: &[EncodedPair]) -> Vec<u64> {
    let rows = |pair: &EncodedPair| (pair.chosen.ids.len() + pair.rejected.ids.len() - pair.rejected.start) as u64;
    pairs.iter().map(rows).collect()
}

/// What a command takes of the memory of a device that has its own.
#[derive(Debug, Clone)]
pub struct OnDevice {
    pub run: Run,
    pub batch_size: usize,
    pub cache: CachePlace,
}

impl OnDevice {
    /// The weights alone.
    pub fn weights(config: &Config) -> Self {
        Self { run: Run::generation(config, 0, 0), batch_size: 1, cache: CachePlace::Auto }
    }

    /// Residuals are kept at so many layers instead of one.
    pub fn keeps_residuals_at(&mut self, layers: usize) {
        self.run.residuals = self.run.residuals.saturating_mul(layers as u64);
    }

    fn choice(&self, dtype: DType) -> Choice {
        Choice { dtype, batch_size: self.batch_size, cache: self.cache }
    }

    /// What is taken with the cache where it is wanted.
    pub fn need(&self, dtype: DType) -> fit::Need {
        self.run.need(&self.choice(dtype))
    }

    /// What is taken beside weights and cache.
    pub fn beside(&self, dtype: DType) -> Bytes {
        let fit::Need { activations, workspace, .. } = self.need(dtype);
        Bytes(activations.0.saturating_add(workspace.0))
    }

    /// A line on what it will take.
    ///
    /// # Errors
    /// More than is free: names the choices that fit.
    pub fn check(&self, dtype: DType, memory: DeviceMemory) -> Result<String> {
        let (wanted, DeviceMemory { free, total }) = (self.choice(dtype), memory);
        match self.run.fit(&wanted, free) {
            Fit::Fits(place, need) => {
                let in_main = self.run.residuals > 0 && place == CachePlace::Host;
                let cache = if in_main { ", activation cache in main memory" } else { "" };
                Ok(format!("device memory: about {} of {free} free ({total} in all): {need}{cache}", need.total()))
            }
            Fit::TooMuch(need, choices) => {
                let flags = |(choice, need): &(Choice, fit::Need)| format!("{} ({})", choice.flags(&wanted), need.total());
                let fits: Vec<String> = choices.iter().map(flags).collect();
                let helps = match fits.is_empty() {
                    true => "a smaller model or --device cpu".to_owned(),
                    false => format!("what fits: {}", fits.join(", or ")),
                };
                let needed = need.total();
                let problem = format!("not enough device memory: about {needed} are needed ({need}), {free} are free; {helps}");
                Err(Error::Memory(problem))
            }
        }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
