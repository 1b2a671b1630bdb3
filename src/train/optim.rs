//! AdamW with decoupled weight decay (arXiv 1711.05101) and the learning-rate schedules, as PyTorch and transformers have them.

use serde::{Deserialize, Serialize};
use strum::{EnumString, VariantNames};

use crate::steering::dose::l2_norm;

/// First and second moment of one vector's gradient.
#[derive(Debug, Clone)]
pub struct AdamW {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
    /// Decoupled decay, a factor of the learning rate.
    pub weight_decay: f64,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

impl AdamW {
    /// Moments of `len` zeros; betas 0.9 and 0.999, eps 1e-8.
    pub(crate) fn new(len: usize, weight_decay: f64) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len], steps: 0, weight_decay }
    }

    /// After `steps` updates, with the moments that they led to; both of one length.
    pub(crate) fn with_moments(first: Vec<f32>, second: Vec<f32>, steps: i32, weight_decay: f64) -> Self {
        Self { first, second, steps, weight_decay }
    }

    /// First and second moment.
    pub(crate) fn moments(&self) -> [&[f32]; 2] {
        [&self.first, &self.second]
    }

    /// One update of `parameters` in place.
    pub(crate) fn step(&mut self, parameters: &mut [f32], gradient: &[f32], lr: f64) {
        self.steps += 1;
        let step_size = lr / (1.0 - BETA1.powi(self.steps));
        let second_scale = (1.0 - BETA2.powi(self.steps)).sqrt();
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((p, g), (m, s)) in parameters.iter_mut().zip(gradient).zip(moments) {
            let (g, decayed) = (*g as f64, *p as f64 * (1.0 - lr * self.weight_decay));
            *m = (BETA1 * *m as f64 + (1.0 - BETA1) * g) as f32;
            *s = (BETA2 * *s as f64 + (1.0 - BETA2) * g * g) as f32;
            let denominator = (*s as f64).sqrt() / second_scale + EPS;
            *p = (decayed - step_size * *m as f64 / denominator) as f32;
        }
    }
}

/// How the learning rate falls after the warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Scheduler {
    /// Half a cosine, to 0 at the end.
    Cosine,
    /// A line, to 0 at the end.
    Linear,
    /// The learning rate does not fall.
    Constant,
}

/// Learning rate by step: a linear warmup from 0, then the scheduler's fall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Shape of the fall.
    pub scheduler: Scheduler,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of the warmup.
    pub warmup_steps: usize,
    /// Step at which the rate would reach 0.
    pub total_steps: usize,
}

impl Schedule {
    /// Rate of step `k`, from 0; the first step of a warmup has rate 0.
    pub fn at(&self, k: usize) -> f64 {
        if k < self.warmup_steps {
            return self.lr * k as f64 / self.warmup_steps as f64;
        }
        let rest = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((k - self.warmup_steps) as f64 / rest as f64).min(1.0);
        match self.scheduler {
            Scheduler::Cosine => self.lr * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Scheduler::Linear => self.lr * (1.0 - progress),
            Scheduler::Constant => self.lr,
        }
    }
}

/// Scales the gradient down to `max_norm`, as `torch.nn.utils.clip_grad_norm_` does. Returns the norm before.
pub(crate) fn clip_grad_norm(gradient: &mut [f32], max_norm: Option<f64>) -> f64 {
    let norm = l2_norm(gradient);
    if let Some(max_norm) = max_norm {
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 {
            gradient.iter_mut().for_each(|g| *g = (*g as f64 * factor) as f32);
        }
    }
    norm
}

#[cfg(test)]
#[path = "optim_tests.rs"]
mod tests;
