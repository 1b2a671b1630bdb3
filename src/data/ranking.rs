//! Which of several ranked responses make pairs.

/// The pairs that the ranked or scored responses of a row give. Responses of equal rank are no pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::Display, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Ranking {
    /// The best response with the worst, which gives one pair per row.
    #[default]
    BestWorst,
    /// Each response with the next worse one.
    Adjacent,
    /// Each response with every worse one.
    All,
}

impl Ranking {
    /// Returns the pairs of a better and a worse response, as indices of their grades. A higher grade is better; of responses
    /// with equal grades, the first in the row comes first.
    pub(super) fn pairs(self, grades: &[f64]) -> Vec<(usize, usize)> {
        let mut order: Vec<usize> = (0..grades.len()).collect();
        order.sort_by(|a, b| grades[*b].total_cmp(&grades[*a]));
        let pairs: Vec<(usize, usize)> = match self {
            Self::BestWorst => order.first().copied().zip(order.last().copied()).into_iter().collect(),
            Self::Adjacent => order.windows(2).map(|couple| (couple[0], couple[1])).collect(),
            Self::All => (0..order.len())
                .flat_map(|i| order[i + 1..].iter().map(|worse| (order[i], *worse)).collect::<Vec<_>>())
                .collect(),
        };
        pairs.into_iter().filter(|(better, worse)| grades[*better] > grades[*worse]).collect()
    }
}

#[cfg(test)]
#[path = "ranking_tests.rs"]
mod tests;
