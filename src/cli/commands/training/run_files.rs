//! Files of an output directory beside the checkpoint and the vector: the settings, the training curve, the model card.

use std::path::Path;

use bipo::Result;
use bipo::report::{card, curves};
use bipo::steering::vector::SteeringVector;
use bipo::train::{EpochRecord, StepRecord};
use serde_json::Value;

use crate::commands::vectors::VECTOR_FILE;
use crate::terminal::Log;

/// Names of the pictures of the run, beside the vector. The last is the one that the card shows.
const CURVES: &[&str] = if cfg!(feature = "pictures") { &["training.svg", "training.png"] } else { &["training.svg"] };

/// Leaves the training curve beside the vector. Returns the name of the picture for the card, none where it could not be drawn:
/// the vector is saved, so that is no reason to fail.
pub fn draw_curve(dir: &Path, steps: &[StepRecord], epochs: &[EpochRecord], log: Log) -> Option<&'static str> {
    remove_curve(dir);
    let chart = curves::training(steps, epochs);
    let drawn = CURVES.iter().try_for_each(|name| chart.write(&dir.join(name)));
    let advice = "the vector is saved, and metrics.jsonl has the curve's numbers: draw them from it";
    drawn.map_err(|error| log.warn_even_if_quiet(format!("no training curve: {error}; {advice}"))).ok()?;
    CURVES.last().copied()
}

/// Takes the curve of an earlier run away: it would pass for this vector's.
pub fn remove_curve(dir: &Path) {
    for name in ["training.svg", "training.png"] {
        // Most often there is none; what cannot be removed cannot be helped.
        let _ = std::fs::remove_file(dir.join(name));
    }
}

/// Leaves the model card beside the vector.
pub fn write_card(dir: &Path, vector: &SteeringVector, epochs: &[EpochRecord], curve: Option<&str>, log: Log) -> Result<()> {
    if !card::write(dir, &card::model_card(vector, VECTOR_FILE, epochs, curve))? {
        let path = dir.join(card::CARD_FILE);
        log.warn(format!("{} is no model card of bipo and stays as it is: move it away to have one written", path.display()));
    }
    Ok(())
}

/// A JSON value as the files of a run hold it: indented, with a line feed at the end.
pub fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
