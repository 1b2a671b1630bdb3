//! Tests of `baseline`.

use std::collections::BTreeMap;

use super::*;
use crate::steering::vector::Metadata;

fn vector(layers: &[(usize, &[f32])]) -> SteeringVector {
    let layers: BTreeMap<usize, Vec<f32>> = layers.iter().map(|(layer, v)| (*layer, v.to_vec())).collect();
    SteeringVector { layers, metadata: Metadata::default() }
}

#[test]
fn random_directions_have_the_vectors_layers_and_norms() {
    let long = vec![0.5; 4096];
    let own = vector(&[(2, &long), (5, &[3.0, 4.0])]);
    let drawn = random(&own, 7);
    for (layer, v) in &own.layers {
        assert!((l2_norm(&drawn.layers[layer]) / l2_norm(v) - 1.0).abs() < 1e-6);
    }
    // Independent directions of n elements have a cosine of the order 1/√n.
    let dot: f64 = drawn.layers[&2].iter().map(|x| f64::from(*x) * 0.5).sum();
    assert!((dot / own.layers.get(&2).map_or(1.0, |v| l2_norm(v)).powi(2)).abs() < 4.0 / 64.0);
    assert_eq!(drawn, random(&own, 7));
    assert_ne!(drawn, random(&own, 8));
}

#[test]
fn vectors_are_brought_to_a_norm_and_zero_is_refused() {
    let scaled = at_norm(vector(&[(1, &[3.0]), (2, &[4.0])]), 10.0).unwrap();
    assert_eq!(scaled.layers, vector(&[(1, &[6.0]), (2, &[8.0])]).layers);
    assert_eq!(at_norm(vector(&[(1, &[0.0])]), 1.0).unwrap_err().exit_code(), 2);
}
