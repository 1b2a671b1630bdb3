//! Tests of `preference`.

use std::collections::BTreeMap;

use super::*;

const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 100, seed: 1 };

fn values(direction: f64) -> BTreeMap<String, f64> {
    let scores = Scores {
        policy: &[[-3.0, -5.0], [-9.0, -4.0], [-2.0, -2.5]],
        reference: &[[-4.0, -5.0], [-8.0, -4.0], [-2.0, -2.5]],
        tokens: &[[1, 3], [9, 2], [2, 2]],
        direction,
    };
    measures(&scores, 0.5, &BOOTSTRAP).into_iter().map(|measure| (measure.name, measure.estimate.value)).collect()
}

/// Margins are 0.5, −0.5 and 0; per token the responses have −3 against −5/3, −1 against −2, −1 against −1.25.
#[test]
fn measures_are_those_of_the_definitions() {
    let third = 1.0 / 3.0;
    let expected = [("margin", 0.0), ("moved_right", third), ("moved_wrong", third), ("prefers_chosen", 2.0 * third)];
    let found = values(1.0);
    for (name, value) in expected.into_iter().chain([("prefers_chosen_per_token", 2.0 * third)]) {
        assert!((found[name] - value).abs() < 1e-12, "{name}");
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn without_a_direction_no_way_is_right_or_wrong() {
    assert_eq!(values(0.0).keys().collect::<Vec<_>>(), ["margin", "prefers_chosen", "prefers_chosen_per_token"]);
}

#[test]
fn dose_is_the_mean_over_pairs() {
    let dose = mean_dose(&[Some(2.0), None, Some(4.0)], 8.0, -0.5, &BOOTSTRAP).unwrap();
    assert!((dose.estimate.value - 1.5).abs() < 1e-12);
}
