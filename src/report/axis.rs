//! An axis: the range that holds all values and ends at ticks, where each value lies in it, and what the ticks say. Ticks are
//! multiples of 1, 2 or 5 times a power of ten.

/// How values are laid on an axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally long.
    #[default]
    Linear,
    /// Linear, with ticks at whole numbers alone: the axis counts something.
    Whole,
    /// Equal ratios are equally long, if all values are positive and differ by a factor of ten or more; linear otherwise.
    Log,
}

/// An axis from its first tick to its last. On a log axis all places are decadic logarithms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    is_log: bool,
    has_names: bool,
    first: f64,
    last: f64,
    ticks: Vec<(f64, String)>,
}

/// Beyond this a value is taken for a failure and has no place: differences of such values would overflow.
const LARGEST: f64 = 1e100;

impl Axis {
    /// The axis that holds `values`, divided into about `count` parts.
    pub(super) fn new(scale: Scale, values: impl Iterator<Item = f64>, count: f64) -> Self {
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        let placeable = values.filter(|value| value.abs() < LARGEST);
        let (low, high) = placeable.fold(none, |(low, high), value| (low.min(value), high.max(value)));
        let is_log = scale == Scale::Log && low > 0.0 && high >= 10.0 * low;
        let ticks = match is_log {
            true => log_ticks(low, high, count as i32),
            false => linear_ticks(low, high, count, if scale == Scale::Whole { 1.0 } else { 0.0 }),
        };
        let place = |tick: Option<&(f64, String)>| tick.map_or(0.0, |(place, _)| *place);
        Self { is_log, has_names: false, first: place(ticks.first()), last: place(ticks.last()), ticks }
    }

    /// The axis of names, from its far end: the first at 0, the next at 1.
    pub(super) fn named(names: &[String]) -> Self {
        let ticks = names.iter().enumerate().map(|(at, name)| (at as f64, name.clone())).collect();
        Self { is_log: false, has_names: true, first: names.len() as f64 - 0.5, last: -0.5, ticks }
    }

    /// Whether it is linear and leaves 0 out: equal lengths are not equal shares of a value then, and a reader must be told.
    pub(super) fn is_cut(&self) -> bool {
        !self.is_log && !self.has_names && (self.first > 0.0 || self.last < 0.0)
    }

    /// Place of `value` on the axis: 0 at the first tick, 1 at the last; none where it has no place.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        let place = if self.is_log { value.log10() } else { value };
        (place.abs() < LARGEST).then(|| (place - self.first) / (self.last - self.first))
    }

    /// Place of 0, if it is on the axis and means something there.
    pub(super) fn zero(&self) -> Option<f64> {
        self.share(0.0).filter(|share| !self.has_names && (0.0..=1.0).contains(share))
    }

    /// Place of each tick, and its label.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.iter().map(|(place, label)| ((place - self.first) / (self.last - self.first), label.as_str()))
    }
}

/// Ticks at multiples of one step, from at or below `low` to at or above `high`.
fn linear_ticks(low: f64, high: f64, count: f64, least_step: f64) -> Vec<(f64, String)> {
    let size = low.abs().max(high.abs());
    let (low, high) = match high - low {
        _ if low > high => (0.0, 1.0),
        _ if size == 0.0 => (-1.0, 1.0),
        span if span <= 1e-12 * size => (low - (0.1 * size).max(least_step), high + (0.1 * size).max(least_step)),
        // Values that begin near 0 are seen best from 0, except those that count something.
        _ if least_step == 0.0 && low > 0.0 && low <= 0.35 * high => (0.0, high),
        _ => (low, high),
    };
    let rough = ((high - low) / count.max(1.0)).max(least_step);
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0].map(|m| m * power).into_iter().find(|step| *step >= rough * (1.0 - 1e-9)).unwrap_or(10.0 * power);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let (first, last) = ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
    (first..=last).map(|i| i as f64 * step).map(|at| (at, label(at, decimals))).collect()
}

/// Ticks at 1, 2 and 5 times each power of ten, at each power, or at every so many powers: the finest that are few enough.
fn log_ticks(low: f64, high: f64, count: i32) -> Vec<(f64, String)> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let count = count.max(1);
    let every = (last - first + count - 1) / count;
    let mantissas: &[f64] = if 3 * (last - first) <= count + 1 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = (first.div_euclid(every) * every..last + every).step_by(every as usize);
    let all = powers.flat_map(|power| {
        let decimals = (-power).max(0) as usize;
        mantissas.iter().map(move |m| (m.log10() + f64::from(power), label(m * 10f64.powi(power), decimals)))
    });
    let mut ticks: Vec<(f64, String)> = all.collect();
    ticks.truncate(1 + ticks.partition_point(|(at, _)| *at < high.log10()));
    ticks.split_off(ticks.partition_point(|(at, _)| *at <= low.log10()).saturating_sub(1))
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

/// The minus sign in place of the hyphen.
pub(super) fn minus(number: &str) -> String {
    number.replace('-', "−")
}

#[cfg(test)]
#[path = "axis_tests.rs"]
mod tests;
