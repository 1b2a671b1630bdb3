//! What a run tells: a record of each step and epoch, where the time went, and how it ended.

use serde::{Deserialize, Serialize};

use crate::Error;

/// One step: one line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the step, from 1.
    pub step: usize,
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Data set rows of the batch, in order.
    pub rows: Vec<usize>,
    /// Direction of the step.
    pub d: f64,
    /// Factors on v that were drawn, of the chosen and the rejected response of each pair; empty where none are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<[f32; 2]>,
    /// The factor on v after the step, where it is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f32>,
    /// Mean loss of the objective.
    pub loss: f64,
    /// Mean margin before the direction is applied.
    pub margin: f64,
    /// Share of pairs with d·margin > 0.
    pub accuracy: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the gradient before clipping, all layers together.
    pub grad_norm: f64,
    /// Norm of v after the step, all layers together. A factor that is learned is multiplied into v.
    pub vector_norm: f64,
    /// Rows that went through the upper blocks; those that no vector changes are in the cache.
    pub tokens: usize,
    /// Wall time of the step.
    pub seconds: f64,
}

/// Margins on held-out pairs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Heldout {
    /// Mean margin at d = +1; positive is the right way.
    pub positive_margin: f64,
    /// Mean margin at d = −1; negative is the right way.
    pub negative_margin: f64,
    /// Share of pairs with a positive margin at d = +1.
    pub positive_right: f64,
    /// Share of pairs with a negative margin at d = −1.
    pub negative_right: f64,
    /// Mean loss of the objective, over both directions where the run learns from both: what the best epoch is chosen by.
    pub loss: f64,
}

/// The end of an epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Number of steps so far.
    pub step: usize,
    /// Margins on the held-out pairs, if there are any.
    pub heldout: Option<Heldout>,
    /// Whether this is the best epoch so far.
    pub best: bool,
}

/// Seconds that the parts of a run took, and what the steps did in it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Timings {
    /// Blocks 0..=L and the reference pass, once a pair.
    pub cache_s: f64,
    /// Upper blocks and head, forward; with CUDA what it takes to queue that.
    pub forward_s: f64,
    /// Gradient of v; with CUDA also the wait for all of the pass.
    pub backward_s: f64,
    /// Seconds for held-out scoring.
    pub eval_s: f64,
    /// Everything else of the training loop.
    pub other_s: f64,
    /// Rows that went through the upper blocks in all steps.
    pub tokens: u64,
    /// Floating-point operations that these needed, forward and back, counted from the shapes.
    pub flops: u64,
}

impl Timings {
    /// Seconds of all steps.
    pub fn step_s(&self) -> f64 {
        self.forward_s + self.backward_s
    }

    /// What of the training loop is measured by itself.
    pub(super) fn measured_s(&self) -> f64 {
        self.step_s() + self.eval_s
    }
}

/// A finished or stopped run.
#[derive(Debug)]
pub struct Outcome {
    /// The vectors, lowest layer first: the best epoch's where held-out pairs were given, else the last. `(layers·H)`
    pub v: Vec<f32>,
    /// Number of steps that were done.
    pub steps: usize,
    /// Loss of the last step.
    pub final_loss: f64,
    /// Mean margin of the last step, times its direction.
    pub final_margin: f64,
    /// Epoch of `v`, where held-out pairs chose it.
    pub best_epoch: Option<usize>,
    /// Held-out margins of `v`.
    pub heldout: Option<Heldout>,
    /// The epochs that were done, in order.
    pub epochs: Vec<EpochRecord>,
    /// Seconds that the parts of the run took.
    pub timings: Timings,
    /// Bytes of the activation cache, in memory and in a file.
    pub cache_bytes: usize,
    /// Why the run ended early: `v` is then the last good state.
    pub stopped: Option<Error>,
}
