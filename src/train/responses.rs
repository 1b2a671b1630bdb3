//! Which response each predicted token of a pass belongs to: sums of log-probabilities by response, and the loss's slope at
//! each token. Where there are kernels the slopes are computed beside the log-probabilities, in f32, so that nothing waits
//! for the host between forward and backward; elsewhere from [`super::objective`], in f64.

use candle_core::{Device, Tensor};

use super::objective::{Objective, PairLogProbs, PairReference};
use crate::Result;
use crate::ops::cuda::{self, Argument, Call, Element, Launcher, Module};

/// The tokens `P` of some pairs' responses.
#[derive(Debug, Clone)]
pub struct Responses {
    /// Pair and side of each token.
    owners: Vec<(usize, usize)>,
    /// Log-probabilities of what is not predicted in this pass, by response.
    constants: Vec<PairLogProbs>,
    /// The owners for the kernel, u32: 2·pair + side.
    table: Option<Tensor>,
}

impl Responses {
    /// Tokens of these pairs and sides; `constants` are the log-probabilities that each response has beside them.
    pub fn new(owners: Vec<(usize, usize)>, constants: Vec<PairLogProbs>, device: &Device) -> Result<Self> {
        let numbers = owners.iter().map(|(pair, side)| (2 * pair + side) as u32);
        // A device has no memory for no tokens.
        let table = cuda::launcher(device).map(|_| Tensor::from_iter(numbers.chain([0]), device)).transpose()?;
        Ok(Self { owners, constants, table })
    }

    /// Log-probabilities of the tokens, summed by response.
    pub fn sums(&self, log_probs: &[f32]) -> Vec<PairLogProbs> {
        self.sums_of(log_probs, |_| true)
    }

    /// [`Responses::sums`] over some of the tokens.
    pub fn sums_of(&self, log_probs: &[f32], is_wanted: impl Fn(usize) -> bool) -> Vec<PairLogProbs> {
        let mut sums = self.constants.clone();
        for (token, ((pair, side), log_prob)) in self.owners.iter().zip(log_probs).enumerate() {
            if is_wanted(token) {
                sums[*pair][*side] += f64::from(*log_prob);
            }
        }
        sums
    }

    /// Gives each token the number that its response has in `by_response`. → `(P,)` f32 on `device`
    fn at_tokens(&self, by_response: &[PairLogProbs], device: &Device) -> Result<Tensor> {
        let numbers = self.owners.iter().map(|(pair, side)| by_response[*pair][*side] as f32);
        Ok(Tensor::from_iter(numbers.chain([0.0]), device)?.narrow(0, 0, self.owners.len())?)
    }

    /// Slopes of the objective's mean loss at the tokens' log-probabilities, `(P,)` f32. → the same, where they are
    pub fn slopes(&self, objective: Objective, d: f64, log_probs: &Tensor, references: &[PairReference]) -> Result<Tensor> {
        match (objective, cuda::launcher(log_probs.device()).zip(self.table.as_ref())) {
            (Objective::Bipo { beta }, Some((launcher, owners))) => {
                self.bipo_slopes_kernel(launcher, [log_probs, owners], [beta, d], references)
            }
            _ => {
                let policy = self.sums(&log_probs.to_vec1()?);
                self.at_tokens(&objective.loss(d, &policy, references).slopes, log_probs.device())
            }
        }
    }

    fn bipo_slopes_kernel(
        &self,
        launcher: &dyn Launcher,
        [log_probs, owners]: [&Tensor; 2],
        [beta, d]: [f64; 2],
        references: &[PairReference],
    ) -> Result<Tensor> {
        if log_probs.elem_count() != self.owners.len() || references.len() != self.constants.len() {
            return Err(candle_core::Error::msg("log-probabilities or references of another pass").into());
        }
        let beyond = self.constants.iter().zip(references).map(|(c, reference)| {
            let r = reference.log_probs;
            ((c[0] - r[0]) - (c[1] - r[1])) as f32
        });
        let beyond = Tensor::from_iter(beyond, log_probs.device())?;
        let (count, pairs) = (self.owners.len(), self.constants.len());
        let arguments = vec![
            Argument::Read(log_probs, Element::F32),
            Argument::Read(owners, Element::U32),
            Argument::Read(&beyond, Element::F32),
            Argument::Output((count + 1).into(), Element::F32),
            Argument::size(count)?,
            Argument::F32(beta as f32),
            Argument::F32(d as f32),
            Argument::F32(1.0 / pairs as f32),
        ];
        let by_pair = Call::by_row(Module::Loss, "dpo_slopes", log_probs, [pairs, count + 1]).with(arguments);
        Ok(by_pair.launch_for_one(launcher)?.narrow(0, 0, count)?)
    }
}

#[cfg(test)]
#[path = "responses_tests.rs"]
mod tests;
