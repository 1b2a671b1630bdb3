//! Tests of `condition`.

use super::*;

/// Prompts of one layer with these residuals.
fn prompts(residuals: &[[f64; 2]]) -> Vec<Vec<Vec<f64>>> {
    residuals.iter().map(|h| vec![h.to_vec()]).collect()
}

#[test]
fn precision_recall_and_f1_are_those_of_the_definition() {
    let told = Told::of(&[true, true, true, false], &[true, false]);
    assert_eq!((told.precision, told.recall, told.f1), (0.75, 0.75, 0.75));
    assert_eq!((told.fired, told.need), (4, 4));
    assert_eq!(Told::of(&[false], &[false]), Told { precision: 0.0, recall: 0.0, f1: 0.0, fired: 0, need: 1 });
}

#[test]
fn a_threshold_is_the_middle_of_the_widest_gap_among_those_of_the_best_f1_on_either_side() {
    let above = split(&[0.8, 0.9], &[0.1, 0.2]).unwrap();
    assert_eq!((above.comparison, above.threshold, above.told.f1), (FiringSide::Above, 0.5, 1.0));
    assert!((above.gap - 0.75).abs() < 1e-12);
    let below = split(&[0.1, 0.2], &[0.8, 0.9]).unwrap();
    assert_eq!((below.comparison, below.threshold, below.told.f1), (FiringSide::Below, 0.5, 1.0));
    // 0.6 stands among the others: above 0.55 all three fire with one that need not, F1 = 2·3/(4 + 3).
    let mixed = split(&[0.6, 0.8, 0.9], &[0.1, 0.5, 0.7]).unwrap();
    assert!((mixed.threshold - 0.55).abs() < 1e-12 && (mixed.told.f1 - 6.0 / 7.0).abs() < 1e-12);
    assert_eq!(split(&[0.5, 0.5], &[0.5]), None);
}

#[test]
fn the_direction_is_that_along_which_the_couples_differ_most_and_the_shorter_list_begins_again() {
    // The differences are (3, 0), (2, 1), (1, 0), (2, -1): along the first axis by symmetry.
    let need = prompts(&[[4.0, 5.0], [4.0, 6.0], [2.0, 5.0], [4.0, 4.0]]);
    let rest = prompts(&[[1.0, 5.0], [2.0, 5.0]]);
    let c = component(&need, &rest, 0);
    assert!((f64::from(c[0]).abs() - 1.0).abs() < 1e-6 && c[1].abs() < 1e-6, "{c:?}");
    // Differences without a mean have a direction too.
    let c = component(&prompts(&[[1.0, 0.0], [-1.0, 0.0]]), &prompts(&[[0.0, 0.0]]), 0);
    assert!((c[0].abs() - 1.0).abs() < 1e-6, "{c:?}");
}

#[test]
fn lists_that_are_empty_or_alike_are_refused() {
    let some = prompts(&[[1.0, 2.0]]);
    assert!(find(&some, &[], &[0], PromptReading::Mean).unwrap_err().to_string().contains("empty"));
    assert!(find(&some, &some, &[0], PromptReading::Mean).unwrap_err().to_string().contains("the same score"));
}
