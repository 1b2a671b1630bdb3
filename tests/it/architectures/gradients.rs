//! The gradient of the whole loss against finite differences, and what must leave it as it is.

use super::*;

#[test]
fn the_gradient_of_the_whole_loss_agrees_with_finite_differences() {
    for name in ARCHITECTURES {
        // A router that takes every expert chooses none, so that the loss does not jump.
        let takes_all = CHOOSING_EXPERTS.contains(&name);
        let model = load_changed(name, (DType::F32, WeightStorage::Dense), |config| {
            let experts = config.architecture.experts.as_mut();
            assert_eq!(experts.is_some(), takes_all, "{name}");
            experts.into_iter().for_each(|experts| experts.per_token = experts.count);
        });
        for layers in layer_sets(&model) {
            for ((positions, spans), d) in rules().into_iter().zip([1.0, -1.0, 0.4].into_iter().cycle()) {
                let data = compute(&model, &pairs_in_places(&model, 5, (positions, spans)), layers.lowest(), positions);
                let what = format!("{name}, layers {layers}, {positions}, {spans:?}");
                assert_gradient(&model, &data, &layers, d, &what);
            }
        }
    }
}

/// Along a random direction of all layers together, by Richardson's extrapolation of the central difference.
fn assert_gradient(model: &Model, data: &Activations, layers: &Layers, d: f64, what: &str) {
    let len = layers.as_slice().len() * model.config.hidden_size;
    let (v, u) = (some_vector(len, 5), some_vector(len, 11));
    let (_, gradient) = loss_at(model, data, layers, &v, d);
    assert_eq!(gradient.len(), len);
    let at = |by: f32| {
        let moved: Vec<f32> = v.iter().zip(&u).map(|(v, u)| v + by * u).collect();
        loss_at(model, data, layers, &moved, d).0
    };
    let central = |eps: f32| (at(eps) - at(-eps)) / (2.0 * f64::from(eps));
    let numeric = (4.0 * central(5e-3) - central(1e-2)) / 3.0;
    let analytic: f64 = gradient.iter().zip(&u).map(|(g, u)| f64::from(*g) * f64::from(*u)).sum();
    let size = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let error = (numeric - analytic).abs() / (size(&gradient) * size(&u)).max(1e-3);
    assert!(error < 2e-3, "{what}: {numeric} is not {analytic}");
}

#[test]
fn prompts_computed_once_equal_prompts_computed_at_each_step() {
    let mut spared = BTreeMap::new();
    for name in ARCHITECTURES {
        let model = load(name, DType::F32);
        for layers in layer_sets(&model) {
            for (positions, spans) in rules() {
                let data = compute(&model, &pairs_in_places(&model, 5, (positions, spans)), layers.lowest(), positions);
                let v = some_vector(layers.as_slice().len() * model.config.hidden_size, 5);
                let (loss, gradient) = loss_at(&model, &data, &layers, &v, -1.0);
                let whole = whole_loss_at(&model, &data, &layers, &v, -1.0);
                let what = format!("{name}, layers {layers}, {positions}, {spans:?}");
                assert!((loss - whole.0).abs() < 1e-5, "{what}: loss {loss} is not {}", whole.0);
                let size = whole.1.iter().fold(0f32, |size, g| size.max(g.abs()));
                let worst = gradient.iter().zip(&whole.1).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
                assert!(worst < 1e-4 * size.max(0.1), "{what}: gradient differs by {worst} of {size}");
                let rows = |count: fn(&PairRows) -> usize| data.entries.iter().map(|entry| count(&entry.rows)).sum::<usize>();
                let (live, all) = (rows(|rows| rows.live_rows().count()), rows(|rows| rows.branches.rows()));
                spared.insert((positions.to_string(), spans.is_none()), all - live);
            }
        }
    }
    // By the lengths that `pairs` gives its prompts: 3, 4, 5, 6 and 3 tokens.
    assert_eq!(spared[&("response".to_owned(), true)], 21);
    assert_eq!(spared[&("last".to_owned(), true)], 21 - 5);
    assert_eq!(spared[&("all".to_owned(), true)], 0);
}

/// As [`loss_at`], every row computed anew.
fn whole_loss_at(model: &Model, data: &Activations, layers: &Layers, v: &[f32], d: f64) -> (f64, Vec<f32>) {
    let rows: Vec<&PairRows> = data.entries.iter().map(|entry| &entry.rows).collect();
    let batch = Batch::new(model, &rows).unwrap();
    let residual = batch.lower(&batch.ids(&rows), data.layer).unwrap();
    loss_of(model, data, (&batch, &residual), layers, v, d)
}

#[test]
fn a_second_layer_at_zero_leaves_the_loss_and_the_firsts_gradient_as_they_are() {
    let model = load("llama", DType::F32);
    let hidden = model.config.hidden_size;
    let data = compute(&model, &pairs(&model, 5), 0, Positions::All);
    let v = some_vector(hidden, 3);
    let (loss, gradient) = loss_at(&model, &data, &0.into(), &v, -1.0);
    let both = Layers::try_from(vec![0, 1]).unwrap();
    let (joint_loss, joint_gradient) = loss_at(&model, &data, &both, &[&v[..], &vec![0.0; hidden]].concat(), -1.0);
    assert_eq!(loss, joint_loss);
    assert_eq!(gradient, joint_gradient[..hidden]);
    assert!(joint_gradient[hidden..].iter().any(|g| g.abs() > 1e-3));
}

#[test]
fn the_negative_direction_equals_swapped_responses_with_the_vector_negated() {
    let model = load("llama", DType::F32);
    let pairs = pairs(&model, 5);
    let swapped: Vec<EncodedPair> = pairs
        .iter()
        .map(|pair| EncodedPair { chosen: pair.rejected.clone(), rejected: pair.chosen.clone(), row: pair.row })
        .collect();
    let v = some_vector(model.config.hidden_size, 3);
    let negated: Vec<f32> = v.iter().map(|x| -x).collect();
    let loss_of = |pairs: &[EncodedPair], v: &[f32], d: f64| {
        let data = compute(&model, pairs, 1, Positions::All);
        loss_at(&model, &data, &1.into(), v, d)
    };
    let (loss, gradient) = loss_of(&pairs, &v, -1.0);
    let (swapped_loss, swapped_gradient) = loss_of(&swapped, &negated, 1.0);
    assert!((loss - swapped_loss).abs() < 1e-6);
    for (a, b) in gradient.iter().zip(&swapped_gradient) {
        assert!((a + b).abs() < 1e-5);
    }
}
