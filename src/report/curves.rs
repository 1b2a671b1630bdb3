//! The pictures of this project: a training run, effect and damage against magnitude, a score for each layer.

use std::f64::consts::LN_2;

use super::chart::{Chart, Estimate, Panel, Series, Style};
use crate::train::{EpochRecord, StepRecord};

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
    let curve = |value: fn(&StepRecord) -> f64| -> Vec<(f64, f64)> {
        steps.iter().map(|record| (record.step as f64, value(record))).collect()
    };
    let margins = |sign: f64| -> Vec<(f64, f64)> {
        let taken = steps.iter().filter(|record| record.d * sign > 0.0);
        taken.map(|record| (record.step as f64, record.margin)).collect()
    };
    let heldout = |value: fn(&crate::train::Heldout) -> f64| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|epoch| Some((epoch.step as f64, value(epoch.heldout.as_ref()?)))).collect()
    };
    let losses = curve(|record| record.loss);
    let width = window(losses.len());
    let mean = if losses.len() < TO_SMOOTH { "each step".to_owned() } else { format!("mean of {width} steps") };
    let loss = noisy(Panel::new("loss").reference(LN_2, "ln 2"), &mean, losses, LOSS);
    let loss = marked(loss, "held out", heldout(|set| set.loss), LOSS);
    let margin = noisy(Panel::new("margin"), "at d > 0", margins(1.0), POSITIVE);
    let margin = marked(margin, "held out, d = +1", heldout(|set| set.positive_margin), POSITIVE);
    let margin = noisy(margin, "at d < 0", margins(-1.0), NEGATIVE);
    let margin = marked(margin, "held out, d = −1", heldout(|set| set.negative_margin), NEGATIVE);
    let norm = Series::new("", Style::Line, thin(curve(|record| record.vector_norm))).hue(NORM);
    let chart = Chart::new("Training", "step").panel(loss).panel(margin).panel(Panel::new("norm of the vector").series(norm));
    Chart { x_whole: true, ..chart }
}

/// Effect and damage against magnitude: a panel each, from [`Series::estimates`].
pub fn dose_response(title: impl Into<String>, panels: Vec<Panel>) -> Chart {
    Chart { panels, ..Chart::new(title, "magnitude") }
}

/// A score for each layer, and which of them wins, if one does.
pub fn layer_profile(score: impl Into<String>, layers: &[Estimate], winner: Option<usize>) -> Chart {
    let line = Series::new("", Style::Faint, layers.iter().map(|layer| (layer.x, layer.value)).collect()).hue(NEGATIVE);
    let bars = |wins: bool| -> Vec<Estimate> {
        layers.iter().copied().filter(|layer| winner.is_some_and(|winner| layer.x == winner as f64) == wins).collect()
    };
    let others = Series::estimates("", &bars(false)).style(Style::Bars).hue(NEGATIVE);
    let best = Series::estimates("", &bars(true)).style(Style::Bars).hue(POSITIVE);
    let panel = Panel::new(score).series(line).series(others).series(best);
    let panel = match winner {
        Some(winner) => panel.mark(winner as f64, format!("layer {winner}")),
        None => panel,
    };
    Chart { x_whole: true, ..Chart::new("Score of each layer", "layer").panel(panel) }
}

/// Raw values, pale, and their running mean.
fn noisy(panel: Panel, name: &str, points: Vec<(f64, f64)>, hue: usize) -> Panel {
    if points.is_empty() {
        return panel;
    }
    let smooth = smoothed(&points);
    let panel = match points.len() < TO_SMOOTH {
        true => panel,
        false => panel.series(Series::new("", Style::Faint, thin(points)).hue(hue)),
    };
    panel.series(Series::new(name, Style::Line, thin(smooth)).hue(hue))
}

fn marked(panel: Panel, name: &str, points: Vec<(f64, f64)>, hue: usize) -> Panel {
    if points.is_empty() { panel } else { panel.series(Series::new(name, Style::Markers, points).hue(hue)) }
}

/// An odd number of values to average, a twentieth of all.
fn window(count: usize) -> usize {
    if count < TO_SMOOTH { 1 } else { (count / 20).max(2) / 2 * 2 + 1 }
}

/// The mean of the values around each; at both ends, where there are fewer, their straight line's value, which is the mean
/// elsewhere: neither one noisy value nor a curve drawn inwards.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = window(points.len()) / 2;
    let fitted = |index: usize| {
        let around = &points[index.saturating_sub(half)..(index + half + 1).min(points.len())];
        let mean = |value: &dyn Fn(&(f64, f64)) -> f64| around.iter().map(value).sum::<f64>() / around.len() as f64;
        let (x, y) = (mean(&|point| point.0), mean(&|point| point.1));
        let spread = mean(&|point| (point.0 - x).powi(2));
        let slope = if spread > 0.0 { mean(&|point| (point.0 - x) * (point.1 - y)) / spread } else { 0.0 };
        y + slope * (points[index].0 - x)
    };
    points.iter().enumerate().map(|(index, (x, _))| (*x, fitted(index))).collect()
}

/// Every so many points, the last one among them.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.into_iter().enumerate().filter(|(index, _)| (last - index).is_multiple_of(every)).map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_smoothed_to_itself() {
        let line: Vec<(f64, f64)> = (0..200).map(|x| (f64::from(x), 3.0 * f64::from(x) - 7.0)).collect();
        for ((x, y), (_, expected)) in smoothed(&line).into_iter().zip(&line) {
            assert!((y - expected).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn thinning_keeps_the_last_point_and_a_bounded_number() {
        let line: Vec<(f64, f64)> = (0..10_007).map(|x| (f64::from(x), 0.0)).collect();
        let thinned = thin(line);
        assert_eq!(thinned.last().unwrap().0, 10_006.0);
        assert!((500..=MOST_POINTS).contains(&thinned.len()));
        assert!(thin(Vec::new()).is_empty());
    }
}
