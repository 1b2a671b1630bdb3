//! The pictures of a training run, and of a score for each layer.

use std::f64::consts::LN_2;

use super::axis::Scale;
use super::chart::{Chart, Panel, Point, Series, Style};
use crate::train::{EpochRecord, Heldout, StepRecord};

/// Hues that mean the same in every picture: blue for −, orange for +, as on a page's scale of magnitudes.
const NEGATIVE: usize = 0;
const POSITIVE: usize = 1;
const LOSS: usize = 2;
const NORM: usize = 3;

/// Points of a line, at most: more would only make the file larger.
const MOST_POINTS: usize = 600;

/// Fewer points than these are shown as they are.
const TO_SMOOTH: usize = 20;

/// Loss, margin and norm at each step of a run, and on held-out pairs at the end of each epoch.
pub fn training(steps: &[StepRecord], epochs: &[EpochRecord]) -> Chart {
    let each = |value: fn(&StepRecord) -> f64| -> Vec<Point> {
        steps.iter().map(|record| Point::new(record.step as f64, value(record))).collect()
    };
    let margins = |sign: f64| -> Vec<Point> {
        let taken = steps.iter().filter(|record| record.d * sign > 0.0);
        taken.map(|record| Point::new(record.step as f64, record.margin)).collect()
    };
    let heldout = |name: &str, hue: usize, value: fn(&Heldout) -> f64| {
        let measured = epochs.iter().filter_map(|epoch| Some(Point::new(epoch.step as f64, value(epoch.heldout.as_ref()?))));
        Series::new(name, Style::Markers, measured.collect()).hue(hue)
    };
    let mean = if steps.len() < TO_SMOOTH { "each step".to_owned() } else { format!("mean of {} steps", window(steps.len())) };
    let [loss, loss_mean] = noisy(("each step", &mean), LOSS, each(|record| record.loss));
    // A line joins the steps of its own sign, and passes those of the other.
    let of_sign = |sign: f64, what: &str, hue: usize| {
        let points = margins(sign);
        let name = match window(points.len()) {
            1 => format!("steps with {what}"),
            several => format!("mean of {several} steps with {what}"),
        };
        noisy(("", &name), hue, points)
    };
    let [positive, positive_mean] = of_sign(1.0, "d > 0", POSITIVE);
    let [negative, negative_mean] = of_sign(-1.0, "d < 0", NEGATIVE);
    let heldout_positive = heldout("held out, d = +1", POSITIVE, |set| set.positive_margin);
    let heldout_negative = heldout("held out, d = −1", NEGATIVE, |set| set.negative_margin);
    let norm = Series::new("", Style::Line, thin(each(|record| record.vector_norm))).hue(NORM);
    let loss = Panel::new("loss", vec![loss, loss_mean, heldout("held out", LOSS, |set| set.loss)]);
    let panels = vec![
        Panel { reference: Some((LN_2, "ln 2".to_owned())), ..loss },
        Panel::new("margin", vec![positive, positive_mean, heldout_positive, negative, negative_mean, heldout_negative]),
        Panel::new("norm of the vector", vec![norm]),
    ];
    let kept = epochs.iter().rev().find(|epoch| epoch.best && epoch.heldout.is_some());
    let mark = kept.map(|epoch| (epoch.step as f64, format!("kept: epoch {}", epoch.epoch)));
    Chart { x_scale: Scale::Whole, mark, ..Chart::new("Training", "step", panels) }
}

/// A score for each layer, the best layer if one is, and a named score to compare with.
pub fn layer_profile(score: &str, layers: &[Point], best: Option<usize>, (reference, name): (f64, &str)) -> Chart {
    let (winner, others) = layers.iter().partition(|layer| best.is_some_and(|best| layer.x == best as f64));
    let line = layers.iter().map(|layer| Point::new(layer.x, layer.y)).collect();
    let winner_name = best.map_or_else(String::new, |best| format!("best: layer {best}"));
    let series = vec![
        Series::new("", Style::Faint, line).hue(NEGATIVE),
        Series::new("", Style::Markers, others).hue(NEGATIVE),
        Series::new(winner_name, Style::Markers, winner).hue(POSITIVE),
    ];
    let panel = Panel { reference: Some((reference, name.to_owned())), ..Panel::new(score, series) };
    Chart { x_scale: Scale::Whole, ..Chart::new("Score of each layer", "layer", vec![panel]) }
}

/// Raw values, pale, and their running mean, each with its name; few values have no mean.
fn noisy((raw_name, name): (&str, &str), hue: usize, points: Vec<Point>) -> [Series; 2] {
    let mean = thin(smoothed(&points));
    let raw = if points.len() < TO_SMOOTH { Vec::new() } else { thin(points) };
    [Series::new(raw_name, Style::Faint, raw).hue(hue), Series::new(name, Style::Line, mean).hue(hue)]
}

/// An odd number of values to average, a twentieth of all.
fn window(count: usize) -> usize {
    if count < TO_SMOOTH { 1 } else { (count / 20).max(2) / 2 * 2 + 1 }
}

/// The mean of the values around each; at both ends, where there are fewer, their straight line's value, which is the mean
/// elsewhere: neither one noisy value nor a curve drawn inwards.
fn smoothed(points: &[Point]) -> Vec<Point> {
    let half = window(points.len()) / 2;
    let fitted = |index: usize| {
        let around = &points[index.saturating_sub(half)..(index + half + 1).min(points.len())];
        let mean = |value: &dyn Fn(&Point) -> f64| around.iter().map(value).sum::<f64>() / around.len() as f64;
        let (x, y) = (mean(&|point| point.x), mean(&|point| point.y));
        let spread = mean(&|point| (point.x - x).powi(2));
        let slope = if spread > 0.0 { mean(&|point| (point.x - x) * (point.y - y)) / spread } else { 0.0 };
        y + slope * (points[index].x - x)
    };
    points.iter().enumerate().map(|(index, point)| Point::new(point.x, fitted(index))).collect()
}

/// Every so many points, the last one among them.
fn thin(points: Vec<Point>) -> Vec<Point> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.into_iter().enumerate().filter(|(index, _)| (last - index).is_multiple_of(every)).map(|(_, point)| point).collect()
}

#[cfg(test)]
#[path = "curves_tests.rs"]
mod tests;
