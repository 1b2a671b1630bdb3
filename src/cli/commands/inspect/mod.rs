//! `bipo inspect`: what a vector file holds, how it was made, how files relate, and what a vector means to a model. Computes
//! the report; `text` lays it out.

mod text;

use std::path::{Path, PathBuf};

use bipo::hub::presets;
use bipo::machine::files::open_input;
use bipo::model::Model;
use bipo::session::Demand;
use bipo::steering::lens::{self, NEUTRAL_PROMPTS, ResidualNorm, TokenScore};
use bipo::steering::vector::{Combination, Format, Positions, Spans, SteeringVector};
use bipo::text::chat::Message;
use bipo::text::tokens::{ResponsePrefix, TextEncoder};
use bipo::train::optim::l2_norm;
use bipo::{Error, Result};
use serde::Serialize;

use super::session;
use crate::args::InspectArgs;
use crate::terminal::{self, Log};

/// A vector longer than this many median residuals drowns them at magnitude 1.
const LARGE_RATIO: f64 = 5.0;

/// Root mean square of the elements above which a vector is suspect where no model is given: residuals of the 7B models that
/// the method is for have some tenths in the middle layers.
const LARGE_RMS: f64 = 10.0;

pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    let files: Vec<VectorFile> = args.files.iter().map(|path| VectorFile::read(path, args.layer)).collect::<Result<_>>()?;
    let measure = (!args.model.model.is_empty()).then(|| Measure::new(args, &files, log)).transpose()?;
    let report = Inspection {
        schema_version: 1,
        model: measure.as_ref().map(|measure| measure.model.clone()),
        vectors: files.iter().map(|file| file.report(measure.as_ref())).collect::<Result<_>>()?,
        cosines: cosines(&files),
    };
    match args.model.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text())?,
    }
    Ok(())
}

/// All that is shown: `--json` as it is, text by way of `to_text`.
#[derive(Debug, Serialize)]
struct Inspection {
    schema_version: u32,
    model: Option<MeasuredOn>,
    vectors: Vec<VectorReport>,
    cosines: Vec<CosineMatrix>,
}

/// The model that residuals and tokens come from.
#[derive(Debug, Clone, Serialize)]
struct MeasuredOn {
    name: String,
    prompts: usize,
    tokens: usize,
}

#[derive(Debug, Serialize)]
struct VectorReport {
    file: String,
    format: &'static str,
    base_model: Option<String>,
    model_type: Option<String>,
    num_hidden_layers: Option<usize>,
    hidden_size: usize,
    positions: Positions,
    spans: Option<Spans>,
    training: Option<serde_json::Value>,
    combination: Option<Combination>,
    layers: Vec<LayerReport>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LayerReport {
    /// None where neither the file nor the user says it.
    layer: Option<usize>,
    /// None where an element is not finite.
    norm: Option<f64>,
    not_finite: usize,
    residual: Option<ResidualReport>,
    promoted: Option<Vec<Token>>,
    suppressed: Option<Vec<Token>>,
}

/// ‖h‖ after the layer on the neutral prompts, and ‖v‖ over it.
#[derive(Debug, Serialize)]
struct ResidualReport {
    median: f64,
    mean: f64,
    ratio_to_median: f64,
    ratio_to_mean: f64,
}

#[derive(Debug, Serialize)]
struct Token {
    token: String,
    id: u32,
    score: f32,
}

/// Cosines between the files that hold a vector for one layer; null where one is zero or not finite.
#[derive(Debug, PartialEq, Serialize)]
struct CosineMatrix {
    layer: Option<usize>,
    /// Indices into `vectors`.
    vectors: Vec<usize>,
    cosines: Vec<Vec<Option<f64>>>,
}

/// A vector as its file has it.
struct VectorFile {
    path: PathBuf,
    format: &'static str,
    vector: SteeringVector,
    /// Whether a layer is known.
    has_layer: bool,
}

impl VectorFile {
    /// `layer` is for files that do not say theirs.
    fn read(path: &Path, layer: Option<usize>) -> Result<Self> {
        let (vector, has_layer) = match (SteeringVector::read_any(path, None), layer) {
            (Ok(vector), _) => (vector, true),
            (Err(_), Some(layer)) => (SteeringVector::read_any(path, Some(layer))?, true),
            // A file that is whole but does not say its layer can still be looked at.
            (Err(error), None) => (SteeringVector::read_any(path, Some(0)).map_err(|_| error)?, false),
        };
        Ok(Self { path: path.to_owned(), format: format_of(path)?, vector, has_layer })
    }

    fn layer(&self, layer: usize) -> Option<usize> {
        self.has_layer.then_some(layer)
    }

    fn report(&self, measure: Option<&Measure>) -> Result<VectorReport> {
        let metadata = &self.vector.metadata;
        let layers: Vec<LayerReport> =
            self.vector.layers.iter().map(|(layer, v)| layer_report(self.layer(*layer), v, measure)).collect::<Result<_>>()?;
        let mut warnings: Vec<String> = layers.iter().filter_map(|layer| layer.warning(self.vector.hidden_size())).collect();
        if let Some((made_for, measured_on)) = metadata.base_model.as_ref().zip(measure.map(|measure| &measure.model.name))
            && !is_same_model(made_for, measured_on)
        {
            warnings.push(format!("made for {made_for}, measured on {measured_on}"));
        }
        Ok(VectorReport {
            file: self.path.display().to_string(),
            format: self.format,
            base_model: metadata.base_model.clone(),
            model_type: metadata.model_type.clone(),
            num_hidden_layers: metadata.num_hidden_layers,
            hidden_size: self.vector.hidden_size(),
            positions: metadata.positions,
            spans: metadata.spans,
            training: metadata.training.clone(),
            combination: metadata.combination.clone(),
            layers,
            warnings,
        })
    }
}

fn is_same_model(a: &str, b: &str) -> bool {
    a == b || presets::find(a).is_some_and(|preset| presets::find(b) == Some(preset))
}

/// By content, as the reader decides it.
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

fn layer_report(layer: Option<usize>, v: &[f32], measure: Option<&Measure>) -> Result<LayerReport> {
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

impl LayerReport {
    fn name(&self) -> String {
        self.layer.map_or_else(|| "layer ?".to_owned(), |layer| format!("layer {layer}"))
    }

    fn warning(&self, hidden_size: usize) -> Option<String> {
        let name = self.name();
        let Some(norm) = self.norm else {
            let count = self.not_finite;
            return Some(format!("{name}: {count} of {hidden_size} elements are not finite: no command steers with it"));
        };
        if norm == 0.0 {
            return Some(format!("{name}: every element is zero: it changes nothing"));
        }
        if let Some(residual) = &self.residual {
            let ratio = residual.ratio_to_median;
            return (ratio > LARGE_RATIO).then(|| {
                format!(
                    "{name}: {ratio:.1} times as long as the median residual: at magnitude 1 it drowns what the model thinks"
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

/// A model with what was measured on it.
struct Measure {
    model: MeasuredOn,
    decoder: Model,
    encoder: TextEncoder,
    top: usize,
    norms: Vec<ResidualNorm>,
}

impl Measure {
    fn new(args: &InspectArgs, files: &[VectorFile], log: Log) -> Result<Self> {
        let opened = session::open(&args.model, ResponsePrefix::Auto, log)?;
        for file in files {
            let fits = file.vector.check_model(opened.config.hidden_size, opened.config.num_hidden_layers);
            fits.map_err(|error| Error::Argument(format!("{}: {error}", file.path.display())))?;
        }
        // The residuals of a few short prompts, of which only their lengths are kept.
        let (decoder, _) = session::load(&opened, &Demand::default(), log)?;
        let sequences: Vec<Vec<u32>> = NEUTRAL_PROMPTS
            .iter()
            .map(|prompt| Ok(opened.encoder.encode_prompt(&[Message::new("user", *prompt)])?.ids))
            .collect::<Result<_>>()?;
        let blocks = files.iter().filter_map(|file| file.vector.layers.keys().next_back()).max().map_or(0, |layer| layer + 1);
        let norms = lens::residual_norms(&decoder, &sequences, blocks)?;
        let model =
            MeasuredOn { name: opened.files.name, prompts: sequences.len(), tokens: sequences.iter().map(Vec::len).sum() };
        Ok(Self { model, decoder, encoder: opened.encoder, top: args.top, norms })
    }

    fn tokens(&self, v: &[f32]) -> Result<Option<(Vec<Token>, Vec<Token>)>> {
        let tokenizer = self.encoder.tokenizer();
        // An embedding may have more rows than the tokenizer has tokens: those were never trained.
        let lens = lens::logit_lens(&self.decoder, v, self.top, |id| tokenizer.id_to_token(id).is_some())?;
        let named = |tokens: Vec<TokenScore>| -> Result<Vec<Token>> {
            tokens
                .into_iter()
                .map(|token| Ok(Token { token: self.text(token.id)?, id: token.id, score: token.score }))
                .collect()
        };
        lens.map(|lens| Ok((named(lens.promoted)?, named(lens.suppressed)?))).transpose()
    }

    /// What a token stands for, its leading space included.
    fn text(&self, id: u32) -> Result<String> {
        let piece = self.encoder.tokenizer().id_to_token(id).unwrap_or_default();
        let text = self.encoder.decode(&[id], false)?;
        // Half a character decodes to nothing readable; SentencePiece strips the space of a first token.
        if text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(piece);
        }
        Ok(if piece.starts_with('▁') && !text.starts_with(' ') { format!(" {text}") } else { text })
    }
}

/// A matrix for each layer that at least two files hold, layers ascending.
fn cosines(files: &[VectorFile]) -> Vec<CosineMatrix> {
    let mut layers: Vec<(Option<usize>, usize)> =
        files.iter().flat_map(|file| file.vector.layers.keys().map(|layer| (file.layer(*layer), *layer))).collect();
    layers.sort_unstable();
    layers.dedup();
    let matrix = |(layer, key): (Option<usize>, usize)| {
        let holders: Vec<(usize, &Vec<f32>)> = files
            .iter()
            .enumerate()
            .filter(|(_, file)| file.layer(key) == layer)
            .filter_map(|(index, file)| Some((index, file.vector.layers.get(&key)?)))
            .collect();
        (holders.len() > 1).then(|| CosineMatrix {
            layer,
            vectors: holders.iter().map(|(index, _)| *index).collect(),
            cosines: holders.iter().map(|(_, a)| holders.iter().map(|(_, b)| cosine(a, b)).collect()).collect(),
        })
    };
    layers.into_iter().filter_map(matrix).collect()
}

/// None where it is not defined: another length, a zero vector, an element that is not finite.
fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let cosine = dot / (l2_norm(a) * l2_norm(b));
    (a.len() == b.len() && cosine.is_finite()).then_some(cosine)
}

#[cfg(test)]
mod tests;
