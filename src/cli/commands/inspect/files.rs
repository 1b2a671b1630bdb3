//! Vector files as they are: any format, whether or not they say their layer, and what is said of each.

use std::path::{Path, PathBuf};

use bipo::hub::presets;
use bipo::machine::files::open_input;
use bipo::steering::dose::l2_norm;
use bipo::steering::vector::{Format, SteeringVector};
use bipo::{Error, Result};

use super::measure::MeasuredModel;
use super::report::{LayerReport, ResidualReport, VectorReport};

/// A vector as its file has it.
pub struct InspectedFile {
    pub path: PathBuf,
    pub format: &'static str,
    pub vector: SteeringVector,
    /// Whether the file says its layer.
    pub says_layer: bool,
    /// Whether a layer is known.
    pub has_layer: bool,
}

impl InspectedFile {
    /// `layer` is for files that do not say theirs.
    pub fn read(path: &Path, layer: Option<usize>) -> Result<Self> {
        let (vector, says_layer) = match (SteeringVector::read_any(path, None), layer) {
            (Ok(vector), _) => (vector, true),
            (Err(_), Some(layer)) => (SteeringVector::read_any(path, Some(layer))?, false),
            // A file that is whole but does not say its layer can still be looked at.
            (Err(error), None) => (SteeringVector::read_any(path, Some(0)).map_err(|_| error)?, false),
        };
        let has_layer = says_layer || layer.is_some();
        Ok(Self { path: path.to_owned(), format: format_of(path)?, vector, says_layer, has_layer })
    }

    pub fn layer(&self, layer: usize) -> Option<usize> {
        self.has_layer.then_some(layer)
    }

    pub fn report(&self, measure: Option<&MeasuredModel>) -> Result<VectorReport> {
        let metadata = &self.vector.metadata;
        let layers: Vec<LayerReport> =
            self.vector.layers.iter().map(|(layer, v)| layer_report(self.layer(*layer), v, measure)).collect::<Result<_>>()?;
        let mut warnings: Vec<String> = layers.iter().filter_map(|layer| layer.warning(self.vector.hidden_size())).collect();
        if let Some((made_for, measured_on)) = metadata.base_model.as_ref().zip(measure.map(|measure| &measure.model.name))
            && !is_same_model(made_for, measured_on)
        {
            warnings.push(format!(
                "made for {made_for}, measured on {measured_on}: name its own model with --model, unless they are one"
            ));
        }
        warnings.extend(measure.and_then(|measure| self.vector.family_note(&measure.model_type)));
        warnings.extend(self.vector.unknown_keys_note());
        Ok(VectorReport {
            file: self.path.display().to_string(),
            format: self.format,
            base_model: metadata.base_model.clone(),
            model_type: metadata.model_type.clone(),
            num_hidden_layers: metadata.num_hidden_layers,
            hidden_size: self.vector.hidden_size(),
            operation: metadata.operation,
            condition: metadata.condition,
            positions: metadata.positions,
            spans: metadata.spans,
            training: metadata.training.clone(),
            combination: metadata.combination.clone(),
            calibration: metadata.calibration.clone(),
            layers,
            warnings,
        })
    }
}

pub(super) fn is_same_model(a: &str, b: &str) -> bool {
    a == b || presets::find(a).is_some_and(|preset| presets::find(b) == Some(preset))
}

/// Format of a file by its content, as the reader decides it.
fn format_of(path: &Path) -> Result<&'static str> {
    use std::io::Read;
    let mut head = Vec::new();
    let read = open_input(path)?.take(1 << 20).read_to_end(&mut head);
    read.map_err(|source| Error::read(path, source))?;
    let is_own = |head: &[u8]| head.windows(15).any(|bytes| bytes == br#""format":"bipo""#);
    Ok(match head.as_slice() {
        [b'G', b'G', b'U', b'F', ..] => "GGUF control vector",
        [b'P', b'K', 3, 4, ..] => "PyTorch .pt",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "NumPy .npy",
        [b'{' | b'[', ..] if bipo::steering::vector::VectorFile::read(path)?.format == Format::Svec => "IBM .svec",
        [b'{' | b'[', ..] => "JSON",
        head if is_own(head) => "bipo safetensors",
        _ => "safetensors of another program",
    })
}

pub(super) fn layer_report(layer: Option<usize>, v: &[f32], measure: Option<&MeasuredModel>) -> Result<LayerReport> {
    let not_finite = v.iter().filter(|x| !x.is_finite()).count();
    let norm = Some(l2_norm(v)).filter(|norm| norm.is_finite());
    let residual =
        measure.and_then(|measure| layer.and_then(|layer| measure.norms.get(layer))).zip(norm).map(|(residual, norm)| {
            ResidualReport {
                median: residual.median,
                mean: residual.mean,
                ratio_to_median: norm / residual.median,
                ratio_to_mean: norm / residual.mean,
            }
        });
    let tokens = measure.map(|measure| measure.tokens(v)).transpose()?.flatten();
    let (promoted, suppressed) = tokens.unzip();
    Ok(LayerReport { layer, norm, not_finite, residual, promoted, suppressed })
}
