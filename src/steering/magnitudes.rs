//! The magnitudes of a sweep: a list `-2,0,2`, a range `-2..2:0.5`, both ends included, or those that a calibration found.

use std::str::FromStr;

use super::operation::Operation;
use super::vector::Calibration;
use crate::Error;

/// Factors on the vector, in the order given; at least one, all finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Magnitudes(Vec<f32>);

/// The most that one sweep takes: each is a branch with its own cache.
const MOST: usize = 1000;

impl Magnitudes {
    /// The factors, in the order in which they were given.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

/// A magnitude as a reader sees it: with its sign, and 0 without one.
pub fn signed(magnitude: f32) -> String {
    let sign = if magnitude > 0.0 { "+" } else { "" };
    format!("{sign}{}", short(magnitude))
}

/// A magnitude in few characters: one with many zeros has an exponent, as in 3e38.
pub fn short(magnitude: f32) -> String {
    match magnitude.abs() {
        0.0 => "0".to_owned(),
        1e-6..1e9 => magnitude.to_string(),
        _ => format!("{magnitude:e}"),
    }
}

/// What a sweep's magnitudes are.
#[derive(Debug, Clone, PartialEq)]
pub enum MagnitudeChoice {
    /// Nothing was said: some on both sides of 0, or 0 and 1 where the vector is taken out.
    Usual(UsualMagnitudes),
    /// `auto`: the largest ones within a budget, with 0 between them, as the vector's calibration has them.
    Calibrated,
    /// The magnitudes that are listed.
    Listed(Magnitudes),
}

/// What a vector is used for at magnitudes that the user leaves to bipo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsualMagnitudes {
    /// To generate texts, at −2, 0 and 2.
    Texts,
    /// To measure its effect, at −2, −1, 0, 1 and 2.
    Measured,
}

impl MagnitudeChoice {
    /// The factors of a vector with this calibration that is used by `operation`.
    ///
    /// # Errors
    /// The calibration's are wanted, and the vector has none, or is not added.
    pub fn of(&self, calibration: Option<&Calibration>, operation: Operation) -> Result<Vec<f32>, Error> {
        match self {
            Self::Usual(_) if !operation.is_addition() => Ok(vec![0.0, 1.0]),
            Self::Usual(UsualMagnitudes::Texts) => Ok(vec![-2.0, 0.0, 2.0]),
            Self::Usual(UsualMagnitudes::Measured) => Ok(vec![-2.0, -1.0, 0.0, 1.0, 2.0]),
            Self::Listed(magnitudes) => Ok(magnitudes.0.clone()),
            Self::Calibrated => Ok(calibrated(calibration, operation)?.magnitudes()),
        }
    }
}

/// What `auto` takes the magnitudes of a vector from that is used by `operation`.
///
/// # Errors
/// The vector has no calibration, or is not added.
pub(crate) fn calibrated(calibration: Option<&Calibration>, operation: Operation) -> Result<&Calibration, Error> {
    if operation != Operation::Add {
        let problem = "the magnitude auto is for a vector that is added: give numbers such as 0 and 1, where 1 takes out all along \
                       the vector";
        return Err(Error::Argument(problem.into()));
    }
    calibration.ok_or_else(|| {
        let problem = "the magnitude auto needs a vector whose strength was measured: calibrate its file \
                       first, or give numbers such as -2, 0 and 2";
        Error::Argument(problem.into())
    })
}

impl FromStr for MagnitudeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "auto" { Ok(Self::Calibrated) } else { text.parse().map(Self::Listed) }
    }
}

impl FromStr for Magnitudes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut values = Vec::new();
        for part in text.split(',') {
            match part.split_once("..") {
                Some((first, rest)) => values.extend(range(text, first, rest)?),
                None => values.push(number(text, part)? as f32),
            }
        }
        match values.len() {
            // Minus zero is zero, also where a number rounds to it.
            0..=MOST => Ok(Self(values.into_iter().map(|value| if value == 0.0 { 0.0 } else { value }).collect())),
            count => Err(Error::argument(format!("magnitudes {text:?}: {count} are more than {MOST}"))),
        }
    }
}

fn range(text: &str, first: &str, rest: &str) -> Result<Vec<f32>, Error> {
    let (last, step) = rest.split_once(':').unwrap_or((rest, "1"));
    let (first, last, step) = (number(text, first)?, number(text, last)?, number(text, step)?);
    let steps = (last - first) / step;
    if step == 0.0 || steps < 0.0 {
        return Err(Error::argument(format!("magnitudes {text:?}: a step of {step} does not lead from {first} to {last}")));
    }
    if steps > MOST as f64 {
        return Err(Error::argument(format!("magnitudes {text:?}: more than {MOST}; use a larger step")));
    }
    // Multiples of the step, not a running sum: no drift. The end counts if rounding alone keeps it out.
    let count = (steps + 1e-6).floor() as usize;
    // A sum that cancels leaves a rest (-0.3 + 3 * 0.1 is 5.6e-17), but magnitude 0 is exactly no vector.
    let value = |i: usize| match first + i as f64 * step {
        rest if rest.abs() < step.abs() * 1e-6 => 0.0,
        value => value as f32,
    };
    Ok((0..=count).map(value).collect())
}

fn number(text: &str, part: &str) -> Result<f64, Error> {
    let expected = || Error::argument(format!("magnitudes {text:?}: {part:?} is not a number; expected -2,0,2 or -2..2:0.5"));
    part.trim().parse::<f64>().ok().filter(|value| (*value as f32).is_finite()).ok_or_else(expected)
}

#[cfg(test)]
#[path = "magnitudes_tests.rs"]
mod tests;
