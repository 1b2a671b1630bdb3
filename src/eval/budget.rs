//! What steering may cost, and the search for the largest magnitude that costs no more, in each direction: a bracket first, then a
//! root on log-log axes, where the cost of a small magnitude is a straight line. It knows numbers, not models.

use std::fmt;
use std::str::FromStr;

use crate::steering::positions::Positions;
use crate::text::spans::Spans;
use crate::{Error, Result};

/// What a magnitude may cost, or must bring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// KL(steered ‖ untouched) of the next-token distributions at generated tokens, nats a token, 95th percentile.
    Kl(f64),
    /// Perplexity of a neutral text, as a multiple of that without the vector.
    Perplexity(f64),
    /// Mean margin of pairs, in the direction of the magnitude.
    Margin(f64),
}

impl Budget {
    /// Name of the budget, as the user writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kl(_) => "kl",
            Self::Perplexity(_) => "ppl",
            Self::Margin(_) => "margin",
        }
    }

    /// Refuses a vector that the budget cannot be measured for: the neutral text is read with every token steered.
    ///
    /// # Errors
    /// The budget is a perplexity, and the vector is added at some tokens alone.
    pub fn check_places(self, positions: Positions, spans: Option<Spans>) -> Result<()> {
        match self {
            Self::Perplexity(_) if (positions, spans) != (Positions::All, None) => Err(Error::Argument(format!(
                "{self} reads a text whose every token is steered, which a vector at some tokens alone ({positions}) does not do: \
                 choose kl=…"
            ))),
            _ => Ok(()),
        }
    }

    /// The cost that a search ends at: of a perplexity its logarithm, the change of the mean −log p.
    pub fn target(self) -> f64 {
        match self {
            Self::Kl(target) | Self::Margin(target) => target,
            Self::Perplexity(ratio) => ratio.ln(),
        }
    }

    /// Whether a cost uses the budget up: it is at least 95 % of it, where a search ends.
    pub fn is_used_up(self, cost: f64) -> bool {
        cost >= self.target() * (1.0 - TOLERANCE)
    }

    /// The least cost that uses the budget up, in the unit in which the budget is said.
    pub(super) fn least(self) -> f64 {
        self.shown(self.target() * (1.0 - TOLERANCE))
    }

    /// The power of the magnitude that a small magnitude's cost grows with.
    fn power(self) -> f64 {
        match self {
            Self::Kl(_) | Self::Perplexity(_) => 2.0,
            Self::Margin(_) => 1.0,
        }
    }

    /// A cost in the unit in which the budget is said.
    pub fn shown(self, cost: f64) -> f64 {
        match self {
            Self::Kl(_) | Self::Margin(_) => cost,
            Self::Perplexity(_) => cost.exp(),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (Self::Kl(value) | Self::Perplexity(value) | Self::Margin(value)) = self;
        write!(f, "{}={value}", self.name())
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || {
            let known = "kl=NATS, ppl=RATIO above 1, or margin=NATS, such as kl=1, ppl=1.1 or margin=2";
            Error::argument(format!("budget {text:?}: expected {known}"))
        };
        let (name, value) = text.split_once('=').ok_or_else(expected)?;
        let value: f64 = value.trim().parse().map_err(|_| expected())?;
        let least = if name == "ppl" { 1.0 } else { 0.0 };
        match name {
            _ if !value.is_finite() || value <= least => Err(expected()),
            "kl" => Ok(Self::Kl(value)),
            "ppl" => Ok(Self::Perplexity(value)),
            "margin" => Ok(Self::Margin(value)),
            _ => Err(expected()),
        }
    }
}

/// Most magnitudes that are measured in one direction.
pub const MOST: usize = 12;

/// The share of the budget that a cost may stay below it.
const TOLERANCE: f64 = 0.05;

/// Most that a magnitude grows by at a time before the budget is exceeded, or shrinks by before it is kept.
const STRIDE: f64 = 16.0;

/// Least that it grows by.
const STEP: f64 = 1.05;

/// A cost jumps where magnitudes that differ by less than this factor lie on both sides of the budget, as where another token
/// becomes the likeliest one.
const NARROW: f64 = 1.005;

/// A measured magnitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredMagnitude {
    /// Size of the magnitude, without a sign.
    pub size: f64,
    /// What it costs, in the unit of [`Budget::target`].
    pub cost: f64,
}

/// What was found in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limit {
    /// The largest magnitude that was measured within the budget.
    pub within: Option<MeasuredMagnitude>,
    /// The smallest one that was measured beyond it.
    pub beyond: Option<MeasuredMagnitude>,
    /// Magnitudes that were measured.
    pub evaluations: usize,
}

impl Limit {
    /// The largest magnitude within the budget; none where the budget was never reached, or was exceeded by all that was measured.
    pub fn found(&self, budget: Budget) -> Option<MeasuredMagnitude> {
        let is_reached = |within: &MeasuredMagnitude| {
            budget.is_used_up(within.cost) || self.beyond.is_some_and(|beyond| beyond.cost.is_finite())
        };
        self.within.filter(is_reached)
    }

    /// The size to measure next; none where the search is over.
    fn next(&self, budget: Budget) -> Option<f64> {
        let aim = budget.target() * (1.0 - TOLERANCE / 2.0);
        let growth = |point: MeasuredMagnitude| (aim / point.cost.max(0.0)).powf(budget.power().recip());
        let size = match (self.within, self.beyond) {
            _ if self.evaluations == MOST => return None,
            (Some(within), _) if budget.is_used_up(within.cost) => return None,
            (None, None) => 1.0,
            (Some(within), None) => within.size * growth(within).clamp(STEP, STRIDE),
            (None, Some(beyond)) => beyond.size * growth(beyond).max(STRIDE.recip()),
            (Some(within), Some(beyond)) => {
                let width = beyond.size / within.size;
                if width < NARROW {
                    return None;
                }
                let share = (aim / within.cost).ln() / (beyond.cost / within.cost).ln();
                // No number where a cost is not positive or not finite.
                width.powf(if share.is_finite() && within.cost > 0.0 { share.clamp(0.1, 0.9) } else { 0.5 }) * within.size
            }
        };
        Some(four_digits(size))
    }

    fn learn(&mut self, point: MeasuredMagnitude, budget: Budget) {
        self.evaluations += 1;
        let side = if point.cost <= budget.target() { &mut self.within } else { &mut self.beyond };
        *side = Some(point);
    }
}

/// Rounded, so that what is shown is what was measured.
fn four_digits(size: f64) -> f64 {
    let unit = 10f64.powf(size.log10().floor() - 3.0);
    (size / unit).round() * unit
}

/// The magnitudes that were found, with their signs.
pub fn found(limits: &[Limit; 2], budget: Budget) -> [Option<f32>; 2] {
    let [minus, plus] = limits.map(|limit| limit.found(budget).map(|point| point.size as f32));
    [minus.map(|size| -size), plus]
}

/// Searches the largest magnitude within the budget in the negative and the positive direction. `measure` gets the next magnitudes
/// of both, which can be measured together, and returns what each costs; a cost that is not a number counts as infinite.
///
/// # Errors
/// `measure` fails.
pub fn search(budget: Budget, mut measure: impl FnMut(&[f32]) -> Result<Vec<f64>>) -> Result<[Limit; 2]> {
    let mut limits = [Limit::default(); 2];
    loop {
        let next: Vec<(usize, f64)> =
            limits.iter().enumerate().filter_map(|(at, limit)| Some((at, limit.next(budget)?))).collect();
        if next.is_empty() {
            return Ok(limits);
        }
        let signed = |(at, size): &(usize, f64)| [-size, *size][*at] as f32;
        let costs = measure(&next.iter().map(signed).collect::<Vec<_>>())?;
        for ((at, size), cost) in next.into_iter().zip(costs) {
            let cost = if cost.is_nan() { f64::INFINITY } else { cost };
            limits[at].learn(MeasuredMagnitude { size, cost }, budget);
        }
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
