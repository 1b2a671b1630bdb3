//! Tests of `layer_search`.

use super::*;
use crate::text::tokens::EncodedResponse;

fn pair(row: usize) -> EncodedPair {
    let response = EncodedResponse { ids: vec![1, 2, 3], start: 1, in_spans: None };
    EncodedPair { row, chosen: response.clone(), rejected: response }
}

fn result(layer: usize, loss: Option<f64>, failure: Option<&str>) -> LayerResult {
    let heldout =
        loss.map(|loss| Heldout { positive_margin: 0.0, negative_margin: 0.0, positive_right: 0.0, negative_right: 0.0, loss });
    let failure = failure.map(str::to_owned);
    let (vector_norm, final_loss, final_margin, seconds) = (1.0, 1.0, 1.0, 1.0);
    LayerResult { layer, heldout, vector_norm, steps: 1, final_loss, final_margin, seconds, failure, v: Vec::new() }
}

#[test]
fn a_fifth_of_the_rows_is_held_out_and_pairs_of_one_row_stay_together() {
    let pairs: Vec<EncodedPair> = (0..20).map(|index| pair(index / 2)).collect();
    let (kept, held) = hold_out(pairs.clone(), 11).unwrap();
    let rows = |pairs: &[EncodedPair]| pairs.iter().map(|pair| pair.row).collect::<Vec<_>>();
    assert_eq!((kept.len(), held.len()), (16, 4));
    assert!(rows(&held).iter().all(|row| !rows(&kept).contains(row)));
    assert!(rows(&kept).is_sorted() && rows(&held).is_sorted());
    assert_eq!(hold_out(pairs.clone(), 11).unwrap().1, held);
    assert!((0..20).any(|seed| hold_out(pairs.clone(), seed).unwrap().1 != held));
    assert_eq!(hold_out(vec![pair(0), pair(1)], 11).unwrap().1.len(), 1);
    assert_eq!(hold_out(vec![pair(3), pair(3)], 11).unwrap_err().exit_code(), 2);
}

#[test]
fn the_lowest_held_out_loss_comes_first_and_failed_runs_last() {
    let mut results = [
        result(3, Some(0.6), None),
        result(4, Some(0.1), Some("step 3: not finite")),
        result(5, None, Some("step 1: not finite")),
        result(6, Some(0.5), None),
        result(7, Some(0.5), None),
    ];
    rank(&mut results);
    assert_eq!(results.map(|result| result.layer), [6, 7, 3, 4, 5]);
}

#[test]
fn the_middle_half_of_any_model_is_some_layers() {
    assert_eq!(middle_layers(32).unwrap().as_slice(), (8..24).collect::<Vec<_>>());
    assert_eq!(middle_layers(1).unwrap().as_slice(), [0]);
    assert_eq!(middle_layers(3).unwrap().as_slice(), [0, 1, 2]);
}
