//! Where the parts of a batch become its whole. One process computes all of them today; several would each compute some and
//! add them here.

/// Loss and gradient of some pairs of a batch, as one pass through the upper blocks gives them.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientPart {
    /// Mean loss of the pairs.
    pub loss: f64,
    /// Margin of each pair, before the direction is applied.
    pub margins: Vec<f64>,
    /// Of the mean loss, at v. `(layers·H)`
    pub gradient: Vec<f32>,
    /// Rows that went through the upper blocks.
    pub rows: usize,
}

/// Who computes the parts of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Collective {
    /// This process computes all of them.
    #[default]
    SingleProcess,
}

impl Collective {
    /// The whole batch from its parts, each weighted with its share of the pairs. This is called for each direction of a batch,
    /// before the gradient is checked and clipped.
    ///
    /// `parts` are in the global order of the batch's pairs, at least one, and are added one after the other in that order,
    /// never as partial sums: f32 sums depend on their order, and the bytes of a run must not depend on how many processes
    /// computed it. Which pairs a part holds is part of the result for the same reason. One process passes as many pairs as fit
    /// through the blocks together and hands them over as one part; processes that share a batch must agree on parts that do
    /// not depend on their number, of single pairs.
    pub fn sum(self, parts: &[GradientPart]) -> GradientPart {
        match self {
            Self::SingleProcess => sum_in_order(parts),
        }
    }
}

fn sum_in_order(parts: &[GradientPart]) -> GradientPart {
    let pairs: usize = parts.iter().map(|part| part.margins.len()).sum();
    let len = parts.first().map_or(0, |part| part.gradient.len());
    let mut whole = GradientPart { loss: 0.0, margins: Vec::with_capacity(pairs), gradient: vec![0.0; len], rows: 0 };
    for part in parts {
        let share = part.margins.len() as f64 / pairs as f64;
        whole.loss += share * part.loss;
        whole.margins.extend(&part.margins);
        whole.gradient.iter_mut().zip(&part.gradient).for_each(|(sum, g)| *sum += share as f32 * g);
        whole.rows += part.rows;
    }
    whole
}

#[cfg(test)]
#[path = "collective_tests.rs"]
mod tests;
