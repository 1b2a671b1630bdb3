//! Tests of `steering`.

use super::*;
use crate::steering::vector::Metadata;

fn registry() -> Registry {
    let mut registry = Registry::default();
    for (name, layer, value) in [("cheerful", 1, 1.0), ("formal", 2, 10.0)] {
        let vector = SteeringVector { layers: BTreeMap::from([(layer, vec![value; 4])]), metadata: Default::default() };
        registry.add(name, vector, String::new(), &Device::Cpu).unwrap();
    }
    registry
}

fn applied(value: Value) -> Result<Vec<(String, f32)>, String> {
    let applied = registry().resolve(&value, None, &Device::Cpu).map_err(|error| error.message)?;
    Ok(applied.parts.into_iter().map(|(name, magnitude, _)| (name, magnitude)).collect())
}

fn parts(parts: &[(&str, f32)]) -> Result<Vec<(String, f32)>, String> {
    Ok(parts.iter().map(|(name, magnitude)| ((*name).to_owned(), *magnitude)).collect())
}

#[test]
fn every_form_of_the_field_means_vectors_with_magnitudes() {
    assert_eq!(applied(json!(null)), parts(&[]));
    assert_eq!(applied(json!(0)), parts(&[]));
    assert_eq!(applied(json!("")), parts(&[]));
    assert_eq!(applied(json!(-1.5)), parts(&[("cheerful", -1.5)]));
    assert_eq!(applied(json!("formal")), parts(&[("formal", 1.0)]));
    assert_eq!(applied(json!("cheerful:1.5 - formal:0.5")), parts(&[("cheerful", 1.5), ("formal", -0.5)]));
    assert_eq!(applied(json!("-cheerful:2 + 0.5 formal")), parts(&[("cheerful", -2.0), ("formal", 0.5)]));
    assert_eq!(applied(json!("- cheerful + cheerful:3")), parts(&[("cheerful", 2.0)]));
    assert_eq!(applied(json!("cheerful - cheerful")), parts(&[]));
    assert_eq!(
        applied(json!({"vectors": [{"source": "formal", "scale": 2}, {"source": "cheerful"}]})),
        parts(&[("formal", 2.0), ("cheerful", 1.0)])
    );
    let easysteer = json!({"vectors": [{"source": "formal", "algorithm": "direct", "scale": 2.0, "normalize": false, "apply": {"prompt": "all", "generation": "all"}}], "conflict": "sum"});
    assert_eq!(applied(easysteer), parts(&[("formal", 2.0)]));
}

#[test]
fn what_is_not_understood_is_refused_in_a_line_that_says_why() {
    for (value, expected) in [
        (json!(true), "expected a number"),
        (json!("cheerfull"), "no vector \"cheerfull\": known: cheerful, formal"),
        (json!("cheerful:x"), "expected NAME:MAGNITUDE"),
        (json!("cheerful formal"), "expected + or -"),
        (json!("cheerful +"), "a vector is missing at the end"),
        (json!("0.5"), "a vector's name is missing behind 0.5"),
        (json!("cheerful:1e99"), "not a finite number"),
        (json!({"vektors": []}), "unknown key steering.vektors"),
        (json!({"vectors": [{"source": "formal", "algorithm": "project"}]}), "algorithm = \"project\" is not supported"),
        (json!({"vectors": [{"scale": 1}]}), "source is missing"),
        (json!({"vectors": [{"source": "formal"}], "operation": "null"}), "expected add or ablate"),
        (json!({"vectors": [{"source": "formal"}], "operation": 1}), "expected add or ablate"),
        (json!({"vectors": [{"source": "formal"}], "when": "cooking"}), "no condition \"cooking\": none has a name"),
        (json!({"vectors": [{"source": "formal"}], "when": 1}), "expected the name of a condition, or null"),
    ] {
        let error = applied(value.clone()).unwrap_err();
        assert!(error.contains(expected), "{value}: {error}");
    }
}

#[test]
fn an_expression_says_what_was_applied() {
    let applied = registry().resolve(&json!("formal - 2 cheerful:0.5"), None, &Device::Cpu).unwrap();
    assert_eq!(applied.expression(), "formal:1 - cheerful:1");
    assert_eq!(applied.times(-1.0).expression(), "-formal:1 + cheerful:1");
    // Both vectors are one now, with factor 1.
    assert_eq!(applied.magnitude, 1.0);
    assert_eq!(applied.steering.at(2).unwrap().to_vec2::<f32>().unwrap(), [[10.0; 4]]);
}

#[test]
fn names_that_an_expression_could_not_hold_are_refused() {
    let mut registry = registry();
    let vector = || SteeringVector { layers: BTreeMap::from([(1, vec![1.0; 4])]), metadata: Default::default() };
    for name in ["", "a b", "a:b", "-a", "1.5", "auto", "cheerful", "a/b"] {
        assert!(registry.add(name, vector(), String::new(), &Device::Cpu).is_err(), "{name:?}");
    }
    assert!(registry.remove("cheerful") && !registry.remove("cheerful"));
    registry.add("cheerful", vector(), String::new(), &Device::Cpu).unwrap();
    // The default is the one that has been there longest.
    assert_eq!(registry.chosen(None).unwrap().name, "formal");
}

#[test]
fn a_request_says_the_operation_or_the_vectors_file_does() {
    let mut registry = registry();
    let metadata = Metadata { operation: Operation::Ablate, ..Metadata::default() };
    let vector = SteeringVector { layers: BTreeMap::from([(1, vec![3.0; 4])]), metadata };
    registry.add("refusal", vector, String::new(), &Device::Cpu).unwrap();
    let applied = |value: Value| registry.resolve(&value, None, &Device::Cpu);
    let operation = |value: Value| applied(value).unwrap().steering.operation();
    assert_eq!(operation(json!("refusal")), Operation::Ablate);
    assert_eq!(operation(json!({"vectors": [{"source": "refusal"}], "operation": "add"})), Operation::Add);
    assert_eq!(operation(json!({"vectors": [{"source": "formal"}], "operation": "ablate"})), Operation::Ablate);
    // What is taken out lies along a vector of length 1.
    let out = applied(json!("refusal")).unwrap();
    assert_eq!(out.steering.at(1).unwrap().to_vec2::<f32>().unwrap(), [[0.5; 4]]);
    assert_eq!(out.to_json(None)["operation"], "ablate");
    let refused = applied(json!("refusal + formal")).unwrap_err().message;
    assert!(refused.contains("refusal and formal are used otherwise"), "{refused}");
}

#[test]
fn auto_is_what_calibrate_kept_on_the_side_that_is_meant_and_is_refused_where_nothing_was() {
    let mut registry = registry();
    let calibration = |minus| Some(Calibration { budget: "kl=1".into(), minus, plus: Some(4.0), model: "m".into() });
    for (name, minus) in [("warm", Some(-3.0)), ("honest", None)] {
        let metadata = Metadata { calibration: calibration(minus), ..Metadata::default() };
        let vector = SteeringVector { layers: BTreeMap::from([(1, vec![1.0; 4])]), metadata };
        registry.add(name, vector, String::new(), &Device::Cpu).unwrap();
    }
    let applied = |value: Value, default| registry.resolve(&value, default, &Device::Cpu).map_err(|error| error.message);
    let magnitude = |value: Value| applied(value, Some("warm")).unwrap().parts[0].1;
    assert_eq!(magnitude(json!("auto")), 4.0);
    assert_eq!(magnitude(json!("-auto")), -3.0);
    assert_eq!(magnitude(json!("0.5 warm:auto")), 2.0);
    assert_eq!(magnitude(json!("-warm:auto")), -3.0);
    assert_eq!(magnitude(json!({"vectors": [{"source": "warm", "scale": "-auto"}]})), -3.0);
    let sweep = |value: Value| registry.calibrated(&applied(value, Some("warm")).unwrap()).map_err(|error| error.message);
    assert_eq!(sweep(json!("warm")).unwrap(), [-3.0, 0.0, 4.0]);
    // Of the vector times 2 half as much is as much.
    assert_eq!(sweep(json!("warm:2")).unwrap(), [-1.5, 0.0, 2.0]);
    assert_eq!(sweep(json!("honest")).unwrap(), [0.0, 4.0]);
    for (refused, expected) in [
        (
            applied(json!("auto"), None).err(),
            "cheerful: the magnitude auto needs a vector whose strength was measured: calibrate its file",
        ),
        (applied(json!("-honest:auto"), None).err(), "honest: its calibration found no magnitude below 0 within kl=1"),
        (applied(json!({"vectors": [{"source": "warm", "scale": "auto"}], "operation": "ablate"}), None).err(), "is added"),
        (applied(json!({"vectors": [{"source": "warm", "scale": "car"}]}), None).err(), "neither a number nor auto"),
        (sweep(json!("formal")).err(), "formal: the magnitude auto needs"),
        (sweep(json!("warm + cheerful")).err(), "for one vector"),
        (sweep(json!(0)).err(), "for one vector"),
    ] {
        let refused = refused.unwrap();
        assert!(refused.contains(expected) && refused.lines().count() == 1, "{refused}");
    }
}
