//! What is known of a prompt whose keys and values are in the cache, and what of it another prompt can take over.
//!
//! Two prompts that begin with the same tokens have the same keys and values there, in all blocks where the vectors at these
//! tokens are the same, else in the blocks below the vectors. A prompt's numbers must not depend on who shares it, to the bit:
//! runs of rows are therefore long enough that products and attention add in the order of a whole prompt.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::request::Request;
use crate::Result;
use crate::model::Model;
use crate::ops::attention::FEW_QUERIES;
use crate::ops::linear::FEWEST_ROWS_TOGETHER;
use crate::steering::dose::{dose, median, median_of_steered};

/// A prompt of which some tokens went through all blocks.
#[derive(Debug)]
pub(super) struct Prefix {
    pub request: Request,
    /// First block that the vectors can change.
    pub split: usize,
    /// Rows of the cache.
    pub rows: Range<usize>,
    /// Number of its tokens whose keys and values are in the cache.
    pub tokens: usize,
    /// What entered block `split` at each of these tokens, in pieces. `(·, H)` each
    at_split: Vec<Tensor>,
    /// When it was used last, by the engine's count.
    pub last_used: usize,
}

/// What a prompt takes over of another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shared {
    /// Index of the other prompt.
    pub from: usize,
    /// How many of the first tokens.
    pub tokens: usize,
}

impl Prefix {
    /// Nothing is known of the prompt of a request, which has these rows of the cache.
    pub fn new(request: Request, rows: Range<usize>, model: &Model) -> Self {
        let split = request.steering.lowest().map_or(model.num_blocks(), |layer| layer + 1);
        Self { request, split, rows, tokens: 0, at_split: Vec::new(), last_used: 0 }
    }

    /// Number of tokens of the whole prompt.
    pub fn len(&self) -> usize {
        self.request.ids.len()
    }

    /// Whether all of its tokens went through all blocks.
    pub fn is_complete(&self) -> bool {
        self.tokens == self.len()
    }

    /// The fewest rows that add in the order of the whole prompt.
    pub fn shortest_run(&self) -> usize {
        self.len().min(FEWEST_ROWS_TOGETHER)
    }

    /// Notes that the next tokens went through all blocks, here or in another prompt, and what they were at the split.
    /// `at_split (n, H)`
    pub fn extend(&mut self, at_split: Tensor) -> Result<()> {
        self.tokens += at_split.dim(0)?;
        self.at_split.push(at_split);
        Ok(())
    }

    /// What entered block `split` at the first `tokens`, which must be known. → `(tokens, H)`
    pub fn at_split(&self, tokens: usize) -> Result<Tensor> {
        Ok(Tensor::cat(&self.at_split, 0)?.narrow(0, 0, tokens)?)
    }

    /// The dose over the prompt's steered tokens, over all where none is. All must be known.
    pub fn dose(&self) -> Result<f64> {
        let Request { steering, steered, magnitude, .. } = &self.request;
        let divisors = steering.dose_divisors(&self.at_split(self.tokens)?)?;
        let of_steered = median_of_steered(divisors.clone(), steered.iter().copied());
        let divisor = of_steered.or_else(|| median(divisors)).unwrap_or(f64::NAN);
        Ok(dose(*magnitude, steering.lowest_norm(), divisor))
    }

    /// How many of the first `done` tokens of `other` this prompt can take over in all blocks.
    pub fn same_in_all_blocks(&self, other: &Prefix, done: usize, model: &Model) -> usize {
        if self.split != other.split || !self.is_computed_as(other, model) {
            return 0;
        }
        let (ours, theirs) = (&self.request, &other.request);
        let same_steering = Arc::ptr_eq(&ours.steering, &theirs.steering);
        let same = |token: &usize| {
            let same_id = ours.ids[*token] == theirs.ids[*token];
            let (ours, theirs) = (ours.factor(*token), theirs.factor(*token));
            same_id && ((same_steering && ours.to_bits() == theirs.to_bits()) || (ours == 0.0 && theirs == 0.0))
        };
        let tokens = (0..self.len().min(done)).take_while(same).count();
        // The last token's residual is needed, and few rows by themselves would add in another order.
        tokens.min(self.len().saturating_sub(FEWEST_ROWS_TOGETHER))
    }

    /// How many of the first `done` tokens of `other` this prompt can take over below the vectors of `other`.
    pub fn same_below(&self, other: &Prefix, done: usize, model: &Model) -> usize {
        if other.split > self.split || !self.is_computed_as(other, model) {
            return 0;
        }
        let both = self.request.ids.iter().zip(&other.request.ids[..done]);
        let tokens = both.take_while(|(ours, theirs)| ours == theirs).count();
        match tokens == self.len() {
            true => tokens,
            false => tokens.min(self.len().saturating_sub(FEWEST_ROWS_TOGETHER)),
        }
    }

    /// Whether the two have the same keys where they have the same tokens: rotated by the same angles, and summed in the same
    /// order.
    fn is_computed_as(&self, other: &Prefix, model: &Model) -> bool {
        let (ours, theirs) = (self.len(), other.len());
        model.products_of_prompt(ours) == model.products_of_prompt(theirs)
            && (ours <= FEW_QUERIES) == (theirs <= FEW_QUERIES)
            && (ours == theirs || model.can_share_prefix(ours.max(theirs)))
    }
}

/// The length of the next run of `left` rows where about `most` are wanted: neither it nor the rest is too short to add in the
/// order of a whole prompt.
pub(super) fn piece(left: usize, most: usize) -> usize {
    let most = most.max(FEWEST_ROWS_TOGETHER);
    // A rest that is too short goes along.
    if left < most + FEWEST_ROWS_TOGETHER { left } else { most }
}

#[cfg(test)]
#[path = "prefix_tests.rs"]
mod tests;
