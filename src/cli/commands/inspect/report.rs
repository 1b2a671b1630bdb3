//! What an inspection says of files, layers and tokens: `--json` as it is, `text` lays it out.

use bipo::steering::Operation;
use bipo::steering::condition::Condition;
use bipo::steering::vector::{Calibration, Combination, Positions};
use bipo::text::spans::Spans;
use serde::Serialize;

/// A vector longer than this many median residuals drowns them at magnitude 1.
const LARGE_RATIO: f64 = 5.0;

/// Root mean square of the elements above which a vector is suspect where no model is given: residuals of the 7B models that
/// the method is for have some tenths in the middle layers.
const LARGE_RMS: f64 = 10.0;

/// Everything that is shown: `--json` as it is, text by way of `to_text`.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub schema_version: u32,
    pub model: Option<MeasuredOn>,
    pub vectors: Vec<VectorReport>,
    pub cosines: Vec<CosineMatrix>,
}

/// The model that residuals and tokens come from.
#[derive(Debug, Clone, Serialize)]
pub struct MeasuredOn {
    pub name: String,
    pub prompts: usize,
    pub tokens: usize,
}

#[derive(Debug, Serialize)]
pub struct VectorReport {
    pub file: String,
    pub format: &'static str,
    pub base_model: Option<String>,
    pub model_type: Option<String>,
    pub num_hidden_layers: Option<usize>,
    pub hidden_size: usize,
    #[serde(skip_serializing_if = "Operation::is_addition")]
    pub operation: Operation,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    pub positions: Positions,
    pub spans: Option<Spans>,
    pub training: Option<serde_json::Value>,
    pub combination: Option<Combination>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    pub layers: Vec<LayerReport>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct LayerReport {
    /// Layer that is steered; none where neither the file nor the user says it.
    pub layer: Option<usize>,
    /// Norm of the vector; none where an element is not finite.
    pub norm: Option<f64>,
    pub not_finite: usize,
    pub residual: Option<ResidualReport>,
    pub promoted: Option<Vec<InspectedToken>>,
    pub suppressed: Option<Vec<InspectedToken>>,
}

/// ‖h‖ after the layer on the neutral prompts, and ‖v‖ over it.
#[derive(Debug, Serialize)]
pub struct ResidualReport {
    pub median: f64,
    pub mean: f64,
    pub ratio_to_median: f64,
    pub ratio_to_mean: f64,
}

#[derive(Debug, Serialize)]
pub struct InspectedToken {
    pub token: String,
    pub id: u32,
    pub score: f32,
}

/// Cosines between the files that hold a vector for one layer; null where one is zero or not finite.
#[derive(Debug, PartialEq, Serialize)]
pub struct CosineMatrix {
    pub layer: Option<usize>,
    /// Indices into `vectors`.
    pub vectors: Vec<usize>,
    pub cosines: Vec<Vec<Option<f64>>>,
}

impl LayerReport {
    pub fn name(&self) -> String {
        self.layer.map_or_else(|| "layer ?".to_owned(), |layer| format!("layer {layer}"))
    }

    /// What is wrong with the vector, if anything is.
    pub fn warning(&self, hidden_size: usize) -> Option<String> {
        let name = self.name();
        let Some(norm) = self.norm else {
            let count = self.not_finite;
            return Some(format!(
                "{name}: {count} of {hidden_size} elements are not finite, and no command steers with it: train again with a lower --lr"
            ));
        };
        if norm == 0.0 {
            return Some(format!("{name}: every element is zero, and it steers nothing: train again with more steps"));
        }
        if let Some(residual) = &self.residual {
            let ratio = residual.ratio_to_median;
            return (ratio > LARGE_RATIO).then(|| {
                format!(
                    "{name}: {ratio:.1} times as long as the median residual, which it drowns at magnitude 1: find smaller magnitudes \
                     with bipo calibrate"
                )
            });
        }
        let rms = norm / (hidden_size as f64).sqrt();
        (rms > LARGE_RMS).then(|| {
            format!(
                "{name}: root mean square {rms:.3e} of the elements, above {LARGE_RMS}: compare with the residual (--model)"
            )
        })
    }
}
