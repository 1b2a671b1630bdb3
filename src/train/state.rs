//! All that the steps of a run change, in one struct: whoever continues from it computes the same bits as a run that never
//! stopped. [`super::checkpoint`] is its serialisation.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::{Factor, TrainConfig};
use super::optim::AdamW;
use super::records::{EpochRecord, Heldout, Timings};
use crate::{Error, Result};

/// A run between two steps.
#[derive(Debug, Clone)]
pub struct TrainState {
    /// The vectors, one behind the other, lowest layer first. `(layers·H)`
    pub v: Vec<f32>,
    /// Moments of the vectors' gradient.
    pub optimiser: AdamW,
    /// The factor on the vectors, where it is learned.
    pub factor: Option<LearnedFactor>,
    /// Number of steps that were done.
    pub steps: usize,
    /// The epoch in progress, from 1.
    pub epoch: usize,
    /// Pairs of that epoch, shuffled.
    pub order: Vec<usize>,
    /// Number of the epoch's pairs that are done.
    pub done: usize,
    /// Draws shuffles and directions.
    pub rng: ChaCha8Rng,
    /// Loss of the last step; NaN before the first.
    pub last_loss: f64,
    /// Mean margin of the last step, times its direction; NaN before the first.
    pub last_margin: f64,
    /// The epochs that are done, in order.
    pub epochs: Vec<EpochRecord>,
    /// The vectors of the best of them, times their factor, where held-out pairs choose. `(layers·H)`
    pub best_v: Option<Vec<f32>>,
    /// Seconds that the parts of the run have taken.
    pub timings: Timings,
}

/// A factor that is learned beside the vectors.
#[derive(Debug, Clone)]
pub struct LearnedFactor {
    /// Value of the factor.
    pub value: f32,
    /// Moments of the factor's gradient.
    pub optimiser: AdamW,
}

/// Stream of the generator that draws where vectors start: shuffles and directions do not depend on it.
const START_STREAM: u64 = 1;

/// Numbers for vectors of `hidden_size` to start at. → `(len,)`
fn start(config: &TrainConfig, len: usize, hidden_size: usize) -> Vec<f32> {
    if config.init_scale == 0.0 {
        return vec![0.0; len];
    }
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(START_STREAM);
    let most = config.init_scale / (hidden_size as f64).sqrt();
    (0..len).map(|_| rng.random_range(-most..=most) as f32).collect()
}

impl TrainState {
    /// Before the first step of a run on `pairs` pairs: v where the config starts it.
    pub fn new(config: &TrainConfig, hidden_size: usize, pairs: usize) -> Self {
        let len = config.layers.as_slice().len() * hidden_size;
        let factor = match config.factor {
            Factor::Learned { scale, .. } => {
                Some(LearnedFactor { value: (scale * (hidden_size as f64).sqrt()) as f32, optimiser: AdamW::new(1, 0.0) })
            }
            Factor::One | Factor::Drawn(_) => None,
        };
        let v = match &config.init {
            // It is the product of both that the run continues from.
            Some(init) => init.iter().map(|x| x / factor.as_ref().map_or(1.0, |factor| factor.value)).collect(),
            None => start(config, len, hidden_size),
        };
        let mut state = Self {
            v,
            optimiser: AdamW::new(len, config.weight_decay),
            factor,
            steps: 0,
            epoch: 0,
            order: (0..pairs).collect(),
            done: 0,
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            last_loss: f64::NAN,
            last_margin: f64::NAN,
            epochs: Vec::new(),
            best_v: None,
            timings: Timings::default(),
        };
        state.next_epoch();
        state
    }

    /// The factor on v; 1 where none is learned.
    pub(super) fn learned_factor(&self) -> f32 {
        self.factor.as_ref().map_or(1.0, |factor| factor.value)
    }

    /// The vectors times their factor: what the run has learned. `(layers·H)`
    pub(crate) fn scaled(&self) -> Vec<f32> {
        match self.learned_factor() {
            1.0 => self.v.clone(),
            factor => self.v.iter().map(|x| factor * x).collect(),
        }
    }

    /// Begins the next epoch.
    pub(super) fn next_epoch(&mut self) {
        self.epoch += 1;
        self.done = 0;
        self.order.shuffle(&mut self.rng);
    }

    /// The pairs of the next step; empty at the end of the epoch.
    pub(super) fn batch(&self, size: usize) -> Vec<usize> {
        self.order[self.done..].iter().take(size).copied().collect()
    }

    /// The best epoch so far, where held-out pairs choose.
    pub(crate) fn best(&self) -> Option<(&EpochRecord, Heldout)> {
        self.epochs.iter().rev().find(|record| record.best).and_then(|record| Some((record, record.heldout?)))
    }

    /// Checks that the state is one of a run by `config` on `pairs` pairs with vectors of `len` numbers in all.
    pub(super) fn check(&self, config: &TrainConfig, len: usize, pairs: usize) -> Result<()> {
        let learns = matches!(config.factor, Factor::Learned { .. });
        if self.factor.is_some() != learns {
            let (found, expected) = if learns { ("no ", "one") } else { ("a ", "none") };
            return Err(Error::Argument(format!("the state to continue from has {found}learned factor, the run {expected}")));
        }
        if (self.v.len(), self.order.len()) == (len, pairs) {
            return Ok(());
        }
        let (found_len, found_pairs) = (self.v.len(), self.order.len());
        Err(Error::Argument(format!(
            "the state to continue from has {found_len} numbers and {found_pairs} pairs, the run {len} and {pairs}"
        )))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
