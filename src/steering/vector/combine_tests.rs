//! Tests of `combine`: sums, norms and projections against NumPy's (tests/fixtures/vectors/make.py), the metadata of the
//! result, and refused inputs.

use serde_json::Value;

use super::*;

fn numbers(key: &str) -> Vec<f64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors/combined.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn vector(layers: &[(usize, Vec<f32>)]) -> SteeringVector {
    SteeringVector { layers: layers.iter().cloned().collect(), metadata: Metadata::default() }
}

fn input(file: &str, vector: SteeringVector, weight: f32) -> Summand {
    Summand { file: file.into(), sha256: "0".repeat(64), vector, weight }
}

/// Returns a vector of the fixture at layer 3.
fn recorded(key: &str, weight: f32) -> Summand {
    input(key, vector(&[(3, numbers(key).into_iter().map(|x| x as f32).collect())]), weight)
}

fn options(normalize: bool, orthogonal_to: &[&str]) -> CombineOptions {
    CombineOptions { normalize, orthogonal_to: orthogonal_to.iter().map(|key| recorded(key, 1.0)).collect() }
}

#[test]
fn sums_norms_and_projections_are_numpys() {
    for (key, options) in [
        ("sum", options(false, &[])),
        ("normalized", options(true, &[])),
        ("orthogonal", options(false, &["c", "d"])),
        ("orthogonal_normalized", options(true, &["c", "d"])),
        // A direction that depends linearly on the directions before it adds nothing.
        ("orthogonal", options(false, &["d", "c", "d", "c"])),
    ] {
        let sum = combine(vec![recorded("a", 1.5), recorded("b", -0.5)], &options).unwrap();
        assert_eq!(sum.layers.keys().collect::<Vec<_>>(), [&3]);
        for (ours, theirs) in sum.layers[&3].iter().zip(numbers(key)) {
            assert!((f64::from(*ours) - theirs).abs() < 2e-7, "{key}: {ours} {theirs}");
        }
    }
}

#[test]
fn one_input_without_options_comes_back_as_it_is() {
    let mut one = vector(&[(1, vec![0.1, -0.2])]);
    one.metadata.training = Some(7.into());
    assert_eq!(combine(vec![input("a", one.clone(), 1.0)], &CombineOptions::default()).unwrap(), one);
    let doubled = combine(vec![input("a", one.clone(), 2.0)], &CombineOptions::default()).unwrap();
    assert_eq!(doubled.layers[&1], [0.2, -0.4]);
    assert_eq!(doubled.metadata.combination.unwrap().parts[0].training, Some(7.into()));
}

#[test]
fn layers_mix_and_a_vector_less_itself_is_zero() {
    let a = vector(&[(1, vec![1.0, 2.0]), (4, vec![3.0, 4.0])]);
    let b = vector(&[(4, vec![0.3, -0.1]), (9, vec![1.0, 0.0])]);
    let sum = combine(vec![input("a", a.clone(), 1.0), input("b", b, -2.0)], &CombineOptions::default()).unwrap();
    let expected = [(1, vec![1.0, 2.0]), (4, vec![3.0 - 0.6, 4.2]), (9, vec![-2.0, 0.0])];
    assert_eq!(sum.layers, expected.into_iter().collect());
    let none = combine(vec![input("a", a.clone(), 0.7), input("a", a, -0.7)], &CombineOptions::default()).unwrap();
    assert_eq!(none.norm(), 0.0);
}

#[test]
fn an_input_of_several_layers_is_brought_to_norm_1_as_a_whole() {
    let both = vector(&[(1, vec![3.0, 0.0]), (2, vec![0.0, 4.0])]);
    let unit = combine(vec![input("a", both, 1.0)], &options(true, &[])).unwrap();
    assert_eq!(unit.layers, [(1, vec![0.6, 0.0]), (2, vec![0.0, 0.8])].into());
}

#[test]
fn a_projection_touches_the_layers_that_the_other_has() {
    let both = vector(&[(1, vec![1.0, 1.0]), (2, vec![1.0, 1.0])]);
    let orthogonal_to = vec![input("c", vector(&[(2, vec![0.0, 5.0])]), 1.0)];
    let rest = combine(vec![input("a", both, 1.0)], &CombineOptions { normalize: false, orthogonal_to }).unwrap();
    assert_eq!(rest.layers, [(1, vec![1.0, 1.0]), (2, vec![1.0, 0.0])].into());
    assert_eq!(rest.metadata.combination.unwrap().orthogonal_to[0].file, "c");
}

#[test]
fn a_calibration_is_kept_where_a_single_vector_is_scaled_and_lost_where_its_direction_changes() {
    let known = |weight: f32| {
        let mut input = recorded("a", weight);
        let calibration = Calibration { budget: "kl=1".into(), minus: Some(-3.0), plus: Some(2.0), model: "m".into() };
        input.vector.metadata.calibration = Some(calibration);
        input
    };
    let of = |inputs, options: &CombineOptions| combine(inputs, options).unwrap().metadata.calibration;
    let plain = CombineOptions::default();
    for (weight, magnitudes) in [(1.0, [-3.0, 0.0, 2.0]), (2.0, [-1.5, 0.0, 1.0]), (-0.5, [-4.0, 0.0, 6.0])] {
        assert_eq!(of(vec![known(weight)], &plain).unwrap().magnitudes(), magnitudes);
    }
    assert_eq!(of(vec![known(1.0), known(1.0)], &plain), None);
    assert_eq!(of(vec![known(1.0)], &options(true, &[])), None);
    assert_eq!(of(vec![known(0.0)], &plain), None);
}

#[test]
fn vectors_that_are_added_and_taken_out_do_not_add_up() {
    let mut ablated = recorded("b", 2.0);
    ablated.vector.metadata.operation = Operation::Ablate;
    let error = combine(vec![recorded("a", 1.0), ablated.clone()], &CombineOptions::default()).unwrap_err().to_string();
    assert!(error.contains("operation ablate") && error.contains("do not add up"), "{error}");
    let both = combine(vec![ablated.clone(), ablated], &CombineOptions::default()).unwrap();
    assert_eq!(both.metadata.operation, Operation::Ablate);
}

#[test]
fn the_result_records_its_parts_and_keeps_what_they_agree_on() {
    let known = |base: &str| {
        let mut input = recorded("a", 1.5);
        input.vector.metadata = Metadata {
            base_model: Some(base.into()),
            model_type: Some("llama".into()),
            num_hidden_layers: Some(8),
            operation: Operation::Add,
            positions: Positions::Response,
            spans: Some(Spans::Assistant),
            training: Some(base.into()),
            combination: None,
            calibration: None,
            condition: None,
            unknown_keys: Vec::new(),
        };
        input
    };
    let Metadata { base_model, model_type, num_hidden_layers, positions, spans, training, combination, .. } =
        combine(vec![known("x"), known("y")], &options(true, &["c"])).unwrap().metadata;
    assert_eq!((base_model, model_type.as_deref(), num_hidden_layers), (None, Some("llama"), Some(8)));
    assert_eq!((positions, spans, training), (Positions::Response, Some(Spans::Assistant), None));
    let combination = combination.unwrap();
    assert!(combination.normalize);
    let parts: Vec<(&str, f32, Option<&str>)> =
        combination.parts.iter().map(|part| (part.file.as_str(), part.weight, part.base_model.as_deref())).collect();
    assert_eq!(parts, [("a", 1.5, Some("x")), ("a", 1.5, Some("y"))]);
    let sum = combine(vec![known("x"), known("x")], &CombineOptions::default()).unwrap();
    assert_eq!(sum.metadata.base_model.as_deref(), Some("x"));
    // A combination of combinations names the models of all its parts.
    let mixed = combine(vec![known("x"), known("y")], &CombineOptions::default()).unwrap();
    let nested = combine(vec![input("m", mixed, 2.0)], &CombineOptions::default()).unwrap();
    let note = nested.transfer_note("x").unwrap();
    assert!(note.contains("trained on y,"), "{note}");
}

#[test]
fn what_does_not_add_up_is_refused() {
    let a = || input("a", vector(&[(1, vec![1.0, 0.0])]), 1.0);
    let with = |change: fn(&mut Metadata)| {
        let mut input = a();
        change(&mut input.vector.metadata);
        input
    };
    let refusal = |inputs: Vec<Summand>, options: &CombineOptions| {
        let error = combine(inputs, options).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let plain = CombineOptions::default();
    let wide = || input("b", vector(&[(1, vec![1.0])]), 1.0);
    assert!(refusal(Vec::new(), &plain).contains("no vector"));
    assert!(refusal(vec![a(), wide()], &plain).contains("a has hidden size 2, b has 1"));
    let depths = vec![with(|known| known.num_hidden_layers = Some(4)), a(), with(|known| known.num_hidden_layers = Some(6))];
    assert!(refusal(depths, &plain).contains("a model of 4 layers"));
    assert!(refusal(vec![a(), with(|known| known.positions = Positions::Prompt)], &plain).contains("for positions all"));
    assert!(refusal(vec![a(), with(|known| known.spans = Some(Spans::User))], &plain).contains("and spans user"));
    let to = |other: Summand| CombineOptions { normalize: false, orthogonal_to: vec![other] };
    assert!(refusal(vec![a()], &to(wide())).contains("hidden size"));
    assert!(refusal(vec![a()], &to(a())).contains("nothing is left of layer 1"));
    let elsewhere = input("c", vector(&[(2, vec![1.0, 0.0])]), 1.0);
    assert!(refusal(vec![a()], &to(elsewhere)).contains("c has layers 2"));
    let zero = input("z", vector(&[(1, vec![0.0, 0.0])]), 1.0);
    assert!(refusal(vec![zero], &options(true, &[])).contains("z: is zero"));
    let huge = input("h", vector(&[(1, vec![3e38, 0.0])]), 2.0);
    assert!(refusal(vec![huge], &plain).contains("not finite at layer 1"));
}
