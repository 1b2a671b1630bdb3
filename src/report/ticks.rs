//! Where the ticks of an axis are and what they say: multiples of 1, 2 or 5 times a power of ten.

use std::ops::Range;

use super::chart::Scale;

/// An axis: its range, and each tick's place in it with its label. On a log scale both are decadic logarithms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) range: Range<f64>,
    pub(super) ticks: Vec<(f64, String)>,
}

/// Whole steps, or any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    Any,
    Whole,
}

/// Beyond this a value is taken for a failure: axes would overflow.
const LARGEST: f64 = 1e100;

impl Axis {
    /// A linear axis from `low` to `high` with about `count` ticks.
    pub(super) fn linear(low: f64, high: f64, count: usize, steps: Steps) -> Self {
        let step = step((high - low) / count.max(1) as f64, steps);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
        let ticks = (first..=last).map(|i| i as f64 * step).map(|at| (at, label(at, decimals))).collect();
        Self { scale: Scale::Linear, range: low..high, ticks }
    }

    /// A logarithmic axis between two logarithms.
    pub(super) fn log(low: f64, high: f64, count: usize) -> Self {
        let decades = low.floor() as i32..=high.ceil() as i32;
        let at = |mantissas: &[f64]| -> Vec<(f64, String)> {
            let values = decades.clone().flat_map(|decade| mantissas.iter().map(move |m| m * 10f64.powi(decade)));
            values.map(|value| (value.log10(), plain(value))).filter(|(at, _)| (low..=high).contains(at)).collect()
        };
        let finest = [&[1.0, 2.0, 5.0][..], &[1.0]].into_iter().map(at).find(|ticks| ticks.len() <= count + 1);
        let mut ticks = finest.unwrap_or_else(|| at(&[1.0]));
        if ticks.len() < 2 {
            let linear = Self::linear(10f64.powf(low), 10f64.powf(high), count, Steps::Any).ticks;
            ticks = linear.into_iter().filter(|(value, _)| *value > 0.0).map(|(value, label)| (value.log10(), label)).collect();
        }
        let thin = ticks.len().div_ceil(count + 1).max(1);
        Self { scale: Scale::Log, range: low..high, ticks: ticks.into_iter().step_by(thin).collect() }
    }

    /// A value's place on the axis; none where it has none.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        place(self.scale, value)
    }
}

/// A value's place on an axis of this scale.
pub(super) fn place(scale: Scale, value: f64) -> Option<f64> {
    let place = match scale {
        Scale::Linear => value,
        Scale::Log if value > 0.0 => value.log10(),
        Scale::Log => return None,
    };
    (place.abs() < LARGEST).then_some(place)
}

/// The least and the greatest.
pub(super) fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// The round number at or above `rough`.
fn step(rough: f64, steps: Steps) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough * (1.0 - 1e-9));
    let step = round.unwrap_or(10.0 * power);
    if steps == Steps::Whole { step.max(1.0) } else { step }
}

fn label(value: f64, decimals: usize) -> String {
    match value.abs() {
        0.0 if decimals > 4 => "0".to_owned(),
        size if decimals > 4 || size >= 1e6 => {
            let text = format!("{value:.4e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            minus(&format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.')))
        }
        _ => minus(&format!("{:.decimals$}", value + 0.0)),
    }
}

/// A value of its own accord: with no more decimals than it needs.
fn plain(value: f64) -> String {
    label(value, (-value.abs().log10().floor()).max(0.0) as usize)
}

/// The minus sign in place of the hyphen.
pub(super) fn minus(number: &str) -> String {
    number.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_have_equal_decimals() {
        assert_eq!(labels(&Axis::linear(-0.31, 0.93, 5, Steps::Any)), ["0.0", "0.5"]);
        assert_eq!(
            labels(&Axis::linear(-2.0, 2.0, 8, Steps::Any)),
            ["−2.0", "−1.5", "−1.0", "−0.5", "0.0", "0.5", "1.0", "1.5", "2.0"]
        );
        assert_eq!(labels(&Axis::linear(0.0, 0.3, 3, Steps::Any)), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(&Axis::linear(1.0, 3.0, 8, Steps::Whole)), ["1", "2", "3"]);
        assert_eq!(labels(&Axis::linear(0.0, 3e6, 3, Steps::Any)), ["0", "1e6", "2e6", "3e6"]);
        assert_eq!(labels(&Axis::linear(0.0, 2e-6, 2, Steps::Any)), ["0", "1e−6", "2e−6"]);
    }

    #[test]
    fn a_log_axis_has_decades_or_parts_of_them() {
        assert_eq!(labels(&Axis::log(0.9, 2.1, 5)), ["10", "20", "50", "100"]);
        assert_eq!(labels(&Axis::log(0.0, 5.0, 6)), ["1", "10", "100", "1000", "10000", "100000"]);
        assert_eq!(labels(&Axis::log(-2.0, 0.0, 3)), ["0.01", "0.1", "1"]);
        assert_eq!(labels(&Axis::log(14f64.log10(), 18f64.log10(), 4)), ["14", "15", "16", "17", "18"]);
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        assert_eq!(place(Scale::Log, 0.0), None);
        assert_eq!(place(Scale::Log, f64::NAN), None);
        assert_eq!(place(Scale::Linear, f64::INFINITY), None);
        assert_eq!(place(Scale::Linear, 1e300), None);
        assert_eq!(place(Scale::Log, 1e300), Some(300.0));
    }
}
