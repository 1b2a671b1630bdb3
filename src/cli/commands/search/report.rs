//! The candidates of a search, best first: as JSON, as a table, and as a chart.

use std::f64::consts::LN_2;

use bipo::report::{Chart, Point, curves};
use bipo::train::layer_search::LayerResult;
use bipo::train::share::in_percent;
use serde::Serialize;

/// `--json` as it is, text by way of `to_text`.
#[derive(Serialize)]
pub struct LayerRanking {
    pub schema_version: u32,
    pub model: String,
    pub dataset: String,
    pub pairs: usize,
    pub heldout: String,
    pub heldout_pairs: usize,
    pub seed: u64,
    pub cache_bytes: u64,
    pub best_layer: Option<usize>,
    /// Trains the winner in full.
    pub command: Option<String>,
    /// Results of the candidates, the best first.
    pub layers: Vec<LayerResult>,
    /// Why not every candidate was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
}

impl LayerRanking {
    /// The held-out loss of the best candidate.
    pub fn winner_loss(&self) -> Option<f64> {
        self.best_layer.and(self.layers.first()).and_then(|best| best.heldout).map(|heldout| heldout.loss)
    }

    /// Held-out loss by layer; a run that failed has no point.
    pub fn chart(&self) -> Chart {
        let at = |result: &LayerResult| Some(Point::new(result.layer as f64, result.heldout.as_ref()?.loss));
        let mut losses: Vec<Point> = self.layers.iter().filter_map(at).collect();
        losses.sort_by(|a, b| a.x.total_cmp(&b.x));
        curves::layer_profile("held-out loss, lower is better", &losses, self.best_layer, (LN_2, "no vector"))
    }

    pub fn to_text(&self) -> String {
        let mut text = format!("held out: {}\n\n", self.heldout);
        text += "layer        loss  margin at +1             right  margin at -1             right     |v|  seconds\n";
        for result in &self.layers {
            text += &line_of(result, self.heldout_pairs);
            text.push('\n');
        }
        text += "no vector  0.6931\n";
        if let Some(reason) = &self.ended_early {
            text += &format!("ended early ({reason}): the other layers were not tried\n");
        }
        if let Some(command) = &self.command {
            text += &format!("\ntrain it in full: {command}\n");
        }
        text
    }
}

/// A candidate in the table, with the 95 % intervals of its shares of `pairs` held-out pairs.
pub fn line_of(result: &LayerResult, pairs: usize) -> String {
    let layer = result.layer;
    match (&result.failure, &result.heldout) {
        (None, Some(heldout)) => format!(
            "{layer:<9}  {:.4}  {:>+12.4}  {:>16}  {:>+12.4}  {:>16}  {:>6.2}  {:>7.1}",
            heldout.loss,
            heldout.positive_margin,
            in_percent(heldout.positive_right, pairs),
            heldout.negative_margin,
            in_percent(heldout.negative_right, pairs),
            result.vector_norm,
            result.seconds
        ),
        (failure, _) => format!("{layer:<9}  {}", failure.as_deref().unwrap_or("not measured")),
    }
}
