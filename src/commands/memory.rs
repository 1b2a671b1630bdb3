//! Whether a run fits the memory that is free, counted from shapes before the weights are read: what it needs, what there is, and
//! the flag that helps. An estimate of the large parts alone; the small ones have room in what the system can free.

use bipo::bytes::{Bytes, available_memory};
use bipo::tokens::EncodedPair;
use bipo::{Error, Result};

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
        let wide = |n: usize| n as u64;
        let mut rows: Vec<u64> =
            pairs.iter().map(|pair| wide(pair.chosen.ids.len() + pair.rejected.ids.len() - pair.rejected.start)).collect();
        let residuals = rows.iter().sum::<u64>().saturating_mul(wide(config.hidden_size) * 4);
        rows.sort_unstable_by(|a, b| b.cmp(a));
        let batch: u64 = rows.iter().take(args.batch_size).sum();
        let row = config.saved_numbers_a_row();
        let saved = batch.saturating_mul(4 * wide(row)).saturating_mul(wide(config.num_hidden_layers));
        // A larger batch goes through in several passes, none of which saves more.
        let most = (config.matrix_elements().saturating_mul(4) / 3).max(32 << 20);
        Self { weights: 0, cache: residuals.min(cache_memory.0), activations: saved.min(most) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_said_with_its_parts_and_the_flag_that_helps() {
        let need = Need { weights: 14_000_000_000, cache: 1_000_000_000, activations: 500_000_000 };
        assert_eq!(
            need.problem(Bytes(8_000_000_000), Some("--dtype bf16")),
            "not enough memory: about 15.5 GB are needed (weights 14.0 GB, activation cache 1.0 GB, activations of a step \
             500.0 MB), 8.0 GB are free; --dtype bf16 leaves the weights in their file"
        );
        let need = Need { weights: 0, cache: 3_000_000_000, activations: 2_000_000_000 };
        assert!(
            need.problem(Bytes(0), Some("x")).ends_with(
                "; --cache-memory 0 puts the cache into a file; --max-length or --batch-size 1 makes a step smaller"
            )
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_need_beyond_every_machine_is_refused_and_none_is_not() {
        let need = Need { weights: u64::MAX, cache: u64::MAX, activations: 1 };
        let error = need.check(None).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(Need::default().check(None).is_ok());
    }
}
