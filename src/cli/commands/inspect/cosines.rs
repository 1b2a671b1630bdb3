//! How the vectors of several files relate: the cosine of each two that steer the same layer.

use bipo::steering::dose::l2_norm;

use super::files::InspectedFile;
use super::report::CosineMatrix;

/// A matrix for each layer that at least two files hold, layers ascending.
pub fn cosines(files: &[InspectedFile]) -> Vec<CosineMatrix> {
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

/// Cosine of two vectors; none where it is not defined: another length, a zero vector, an element that is not finite.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let cosine = dot / (l2_norm(a) * l2_norm(b));
    (a.len() == b.len() && cosine.is_finite()).then_some(cosine)
}
