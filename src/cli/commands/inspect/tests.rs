//! The parts that need no file: cosines, warnings, and the numbers of the tables.

use bipo::steering::vector::{Metadata, SteeringVector};

use super::cosines::{cosine, cosines};
use super::files::{InspectedFile, is_same_model, layer_report};
use super::report::{LayerReport, ResidualReport};

fn file(layers: &[(usize, &[f32])], has_layer: bool) -> InspectedFile {
    let layers = layers.iter().map(|(layer, v)| (*layer, v.to_vec())).collect();
    let vector = SteeringVector { layers, metadata: Metadata::default() };
    InspectedFile { path: "v".into(), format: "test", vector, says_layer: has_layer, has_layer }
}

#[test]
fn cosines_are_of_files_that_share_a_layer() {
    let files = [
        file(&[(1, &[1.0, 0.0]), (2, &[1.0, 1.0])], true),
        file(&[(2, &[0.0, -3.0])], true),
        file(&[(3, &[1.0, 0.0]), (2, &[0.0, 0.0])], true),
        file(&[(0, &[1.0, 2.0])], false),
    ];
    let matrices = cosines(&files);
    let [matrix] = matrices.as_slice() else { panic!("{matrices:?}") };
    assert_eq!((matrix.layer, matrix.vectors.as_slice()), (Some(2), &[0, 1, 2][..]));
    let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-12;
    assert!(near(matrix.cosines[0][0], 1.0) && near(matrix.cosines[0][1], -std::f64::consts::FRAC_1_SQRT_2));
    assert_eq!(matrix.cosines[0][2], None);
    assert_eq!(cosine(&[1.0], &[1.0, 0.0]), None);
}

#[test]
fn a_layer_that_is_not_known_is_not_taken_for_layer_0() {
    let known = || file(&[(0, &[1.0, 0.0])], true);
    let unknown = || file(&[(0, &[1.0, 0.0])], false);
    assert!(cosines(&[known(), unknown()]).is_empty());
    assert_eq!(cosines(&[unknown(), unknown()])[0].layer, None);
}

#[test]
fn zero_not_finite_and_very_large_vectors_are_warned_of() {
    let warning = |v: &[f32]| layer_report(Some(3), v, None).unwrap().warning(v.len());
    assert!(warning(&[0.0; 4]).unwrap().contains("layer 3: every element is zero, and it steers nothing: train again"));
    assert!(warning(&[1.0, f32::NAN, f32::INFINITY, 0.0]).unwrap().contains("layer 3: 2 of 4 elements are not finite, and no"));
    assert!(warning(&[10.1; 4]).unwrap().contains("root mean square"));
    assert_eq!(warning(&[10.0; 4]), None);
    let measured = |norm: f64| LayerReport {
        layer: Some(3),
        norm: Some(norm),
        not_finite: 0,
        residual: Some(ResidualReport { median: 2.0, mean: 50.0, ratio_to_median: norm / 2.0, ratio_to_mean: norm / 50.0 }),
        promoted: None,
        suppressed: None,
    };
    assert_eq!(measured(10.0).warning(4), None);
    let drowned = measured(10.2).warning(4).unwrap();
    assert!(
        drowned.contains("5.1 times as long as the median residual") && drowned.ends_with("with bipo calibrate"),
        "{drowned}"
    );
}

#[test]
fn a_model_is_the_same_by_alias_repository_and_file() {
    assert!(is_same_model("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1.gguf"));
    assert!(is_same_model("mine", "mine"));
    assert!(!is_same_model("mine", "yours"));
    assert!(!is_same_model("mistral", "llama-2"));
}
