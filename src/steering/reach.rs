//! What a vector at some positions reaches of pairs and questions: whether it is added at any token, and which answers it cannot
//! tell apart. This is known from the token ids, before a model is loaded.

use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPair, EncodedResponse};

/// What a vector reaches of some pairs, or of some questions with their answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Number of pairs, or of questions.
    pub all: usize,
    /// Number of those that the vector has an effect on.
    pub reached: usize,
    /// Number of those whose answers differ in one token alone, such as a letter, with no token before it steered. The vector
    /// then has no effect on which of those tokens the model finds likelier.
    pub undecided: usize,
}

impl Reach {
    /// What a vector at `positions` reaches of these pairs.
    pub fn of<'a>(positions: Positions, pairs: impl IntoIterator<Item = &'a EncodedPair>) -> Self {
        let mut reach = Self::default();
        pairs.into_iter().for_each(|pair| reach.count(positions, std::slice::from_ref(pair)));
        reach
    }

    /// Counts one more pair, or one more question, whose answers stand in these pairs.
    pub fn count(&mut self, positions: Positions, case: &[EncodedPair]) {
        self.all += 1;
        self.reached += usize::from(case.iter().any(|pair| positions.reaches(pair)));
        let mut answers = case.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]);
        let Some(first) = answers.next() else { return };
        // A question with an odd number of answers has one of them twice.
        let others: Vec<&EncodedResponse> = answers.filter(|answer| answer.ids != first.ids).collect();
        let is_undecided = |other: &&EncodedResponse| differ_in_unreached_token(positions, first, other);
        self.undecided += usize::from(!others.is_empty() && others.iter().all(is_undecided));
    }
}

/// Whether the two answers differ in one token alone, and the vector is added at no token before it.
fn differ_in_unreached_token(positions: Positions, a: &EncodedResponse, b: &EncodedResponse) -> bool {
    let alike = a.ids.iter().zip(&b.ids).take_while(|(a, b)| a == b).count();
    let is_one_token = match (a.ids.get(alike + 1..), b.ids.get(alike + 1..)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    };
    is_one_token && !(0..alike).any(|index| positions.steers_token(a, index))
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
