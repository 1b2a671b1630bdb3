//! Makes one vector of several: out = Σ wᵢ·n(p(vᵢ)), layer by layer in f64. p projects directions out (Gram-Schmidt), and n
//! scales the rest to norm 1; both are optional. `bipo convert` writes the result, `bipo steer` uses it at once.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{VectorFile, list};
use super::{Combination, CombinationPart, Metadata, SteeringVector};
use crate::{Error, Result};

/// A vector to be added up, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Summand {
    /// Path of the vector's file, for messages; the file name alone is the same for many runs.
    pub file: String,
    /// SHA-256 of the file's bytes in hex.
    pub sha256: String,
    /// Vector as it was read.
    pub vector: SteeringVector,
    /// Factor on the vector.
    pub weight: f32,
}

impl Summand {
    /// Makes an input from a file. `place` is [`VectorFile::at`] or [`VectorFile::or_at`] with the layer that the user gave.
    ///
    /// # Errors
    /// `place` fails, or an element is not finite.
    pub fn new(file: VectorFile, weight: f32, place: impl FnOnce(VectorFile) -> Result<SteeringVector>) -> Result<Self> {
        let name = file.path.display().to_string();
        let sha256 = file.sha256.clone();
        file.check_finite()?;
        Ok(Self { file: name, sha256, vector: place(file)?, weight })
    }

    fn part(&self) -> CombinationPart {
        let Metadata { base_model, training, combination, .. } = self.vector.metadata.clone();
        CombinationPart {
            file: Path::new(&self.file).file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: self.sha256.clone(),
            weight: self.weight,
            layers: self.vector.layers.keys().copied().collect(),
            norm: self.vector.norm(),
            base_model,
            training,
            combination,
        }
    }
}

/// What is done to each input before its weight is applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CombineOptions {
    /// Whether each input is scaled to norm 1, over all of its layers together, so that the ratios between its layers stay.
    pub normalize: bool,
    /// Vectors that are projected out of each input, in each layer that they have. Their weights do not matter.
    pub orthogonal_to: Vec<Summand>,
}

/// Adds inputs up. A single input of weight 1 without options is returned unchanged. Otherwise the metadata of the result
/// records the parts, and keeps the values that all parts agree on.
///
/// # Errors
/// There is no input; hidden sizes, depths, operations, positions or spans differ; a projection leaves nothing of an input; or the sum is
/// not finite.
pub fn combine(inputs: Vec<Summand>, options: &CombineOptions) -> Result<SteeringVector> {
    check(&inputs, &options.orthogonal_to)?;
    if let ([Summand { vector, weight: 1.0, .. }], false, []) =
        (inputs.as_slice(), options.normalize, options.orthogonal_to.as_slice())
    {
        return Ok(vector.clone());
    }
    inputs.iter().chain(&options.orthogonal_to).try_for_each(|input| {
        let steers = input.vector.check_steers();
        steers.map_err(|error| Error::Argument(format!("{}: {error}", input.file)))
    })?;
    let basis = basis(&options.orthogonal_to);
    let mut sum: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for input in &inputs {
        let contribution = contribution(input, &basis, options)?;
        for (layer, v) in contribution {
            let sum = sum.entry(layer).or_insert_with(|| vec![0.0; v.len()]);
            sum.iter_mut().zip(v).for_each(|(sum, x)| *sum += x);
        }
    }
    let layers: BTreeMap<usize, Vec<f32>> =
        sum.into_iter().map(|(layer, v)| (layer, v.into_iter().map(|x| x as f32).collect())).collect();
    if let Some((layer, _)) = layers.iter().find(|(_, v)| v.iter().any(|x| !x.is_finite())) {
        return Err(Error::Argument(format!("the sum is not finite at layer {layer}: use smaller weights")));
    }
    Ok(SteeringVector { layers, metadata: metadata(&inputs, options) })
}

fn check(inputs: &[Summand], orthogonal_to: &[Summand]) -> Result<()> {
    let [first, ..] = inputs else { return Err(Error::Argument("no vector given".into())) };
    for other in inputs.iter().chain(orthogonal_to) {
        let (a, b) = (&first.file, &other.file);
        let (hidden_a, hidden_b) = (first.vector.hidden_size(), other.vector.hidden_size());
        if hidden_a != hidden_b {
            let problem = format!("{a} has hidden size {hidden_a}, {b} has {hidden_b}: vectors of two sizes do not add up");
            return Err(Error::Argument(problem));
        }
    }
    // Only the depths that are known can be compared.
    let mut deep = inputs.iter().chain(orthogonal_to).filter_map(|i| Some((&i.file, i.vector.metadata.num_hidden_layers?)));
    if let Some((a, depth_a)) = deep.next()
        && let Some((b, depth_b)) = deep.find(|(_, depth)| *depth != depth_a)
    {
        let problem =
            format!("{a} is for a model of {depth_a} layers, {b} for one of {depth_b}: their layers do not correspond");
        return Err(Error::Argument(problem));
    }
    for other in inputs {
        let (a, b) = (use_of(&first.vector.metadata), use_of(&other.vector.metadata));
        if a != b {
            let (file_a, file_b) = (&first.file, &other.file);
            return Err(Error::Argument(format!("{file_a} is for {a}, {file_b} for {b}: they do not add up")));
        }
    }
    for other in orthogonal_to {
        let shared = |input: &Summand| input.vector.layers.keys().any(|layer| other.vector.layers.contains_key(layer));
        if !inputs.iter().any(shared) {
            let (file, layers) = (&other.file, list(other.vector.layers.keys()));
            return Err(Error::Argument(format!(
                "{file} has layers {layers}, of which no input has one: there is nothing to make orthogonal"
            )));
        }
    }
    Ok(())
}

fn use_of(known: &Metadata) -> String {
    let spans = known.spans.map_or("no spans".to_owned(), |spans| format!("spans {spans}"));
    let operation = known.recorded_operation().map_or_else(String::new, |operation| format!("operation {operation}, "));
    format!("{operation}positions {} and {spans}", known.positions)
}

/// A remainder below this share of a vector's norm is rounding error.
const NEGLIGIBLE: f64 = 1e-6;

/// Returns, for each layer, orthonormal vectors that span the vectors to be projected out.
fn basis(orthogonal_to: &[Summand]) -> BTreeMap<usize, Vec<Vec<f64>>> {
    let mut basis: BTreeMap<usize, Vec<Vec<f64>>> = BTreeMap::new();
    for (layer, v) in orthogonal_to.iter().flat_map(|input| &input.vector.layers) {
        let known = basis.entry(*layer).or_default();
        let v: Vec<f64> = v.iter().copied().map(f64::from).collect();
        let rest = rest_of(&v, known);
        let length = norm(&rest);
        // A vector that depends linearly on the vectors before it adds no direction.
        if length > NEGLIGIBLE * norm(&v) {
            known.push(rest.into_iter().map(|x| x / length).collect());
        }
    }
    basis
}

/// Returns `v (H)` without its components along orthonormal vectors. A second pass removes the rounding errors of the first.
fn rest_of(v: &[f64], orthonormal: &[Vec<f64>]) -> Vec<f64> {
    let mut rest = v.to_vec();
    for unit in orthonormal.iter().chain(orthonormal) {
        let along: f64 = rest.iter().zip(unit).map(|(x, u)| x * u).sum();
        rest.iter_mut().zip(unit).for_each(|(x, u)| *x -= along * u);
    }
    rest
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Returns what an input adds to the sum, by layer.
fn contribution(
    input: &Summand,
    basis: &BTreeMap<usize, Vec<Vec<f64>>>,
    options: &CombineOptions,
) -> Result<BTreeMap<usize, Vec<f64>>> {
    let mut out = BTreeMap::new();
    for (layer, v) in &input.vector.layers {
        let v: Vec<f64> = v.iter().copied().map(f64::from).collect();
        let rest = basis.get(layer).map_or_else(|| v.clone(), |known| rest_of(&v, known));
        if norm(&v) > 0.0 && norm(&rest) <= NEGLIGIBLE * norm(&v) {
            let file = &input.file;
            let problem = format!("{file}: nothing is left of layer {layer} once it is made orthogonal to the others");
            return Err(Error::Argument(problem));
        }
        out.insert(*layer, rest);
    }
    let mut factor = f64::from(input.weight);
    if options.normalize {
        let length = norm(&out.values().flatten().copied().collect::<Vec<_>>());
        if length == 0.0 {
            return Err(Error::Argument(format!("{}: is zero and cannot be brought to norm 1", input.file)));
        }
        factor /= length;
    }
    out.values_mut().flatten().for_each(|x| *x *= factor);
    Ok(out)
}

fn metadata(inputs: &[Summand], options: &CombineOptions) -> Metadata {
    let all = || inputs.iter().map(|input| &input.vector.metadata);
    Metadata {
        base_model: agreed(all().map(|known| known.base_model.clone())),
        model_type: agreed(all().map(|known| known.model_type.clone())),
        num_hidden_layers: all().find_map(|known| known.num_hidden_layers),
        operation: all().next().map(|known| known.operation).unwrap_or_default(),
        positions: all().next().map(|known| known.positions).unwrap_or_default(),
        spans: all().next().and_then(|known| known.spans),
        training: None,
        combination: Some(Combination {
            normalize: options.normalize,
            parts: inputs.iter().map(Summand::part).collect(),
            orthogonal_to: options.orthogonal_to.iter().map(Summand::part).collect(),
        }),
        condition: None,
        calibration: match inputs {
            // A single vector is scaled alone.
            [input] if !options.normalize && options.orthogonal_to.is_empty() && input.weight != 0.0 => {
                input.vector.metadata.calibration.as_ref().map(|known| known.scaled(input.weight))
            }
            _ => None,
        },
        unknown_keys: Vec::new(),
    }
}

/// Returns the value that all known values agree on, if they agree and there is one.
fn agreed(mut said: impl Iterator<Item = Option<String>> + Clone) -> Option<String> {
    let first = said.clone().flatten().next()?;
    said.all(|other| other.is_none_or(|other| other == first)).then_some(first)
}
