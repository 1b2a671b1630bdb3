//! `bipo data`: the pairs of every published shape, what is skipped and refused, and that a large file is read in a stream.

use std::fs;

use serde_json::Value;

use crate::cli::{Place, assert_ok, fixture, text};

fn json(place: &Place, args: &[&str]) -> Value {
    let output = place.bipo(&[&["data", "--json"], args].concat());
    assert_ok(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The pairs of a report without their rows.
fn pairs(report: &Value) -> Vec<Value> {
    let pairs = report["pairs"].as_array().unwrap().iter().cloned();
    pairs
        .map(|mut pair| {
            pair.as_object_mut().unwrap().remove("row").unwrap();
            pair
        })
        .collect()
}

#[test]
fn every_published_shape_gives_its_right_pairs_without_a_flag() {
    let place = Place::new();
    let right: Value = serde_json::from_slice(&fs::read(fixture("cases/pairs.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(fixture("cases/data")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = place.bipo(&["data", "--json", path.to_str().unwrap()]);
        files += 1;
        match serde_json::from_slice::<Value>(&output.stdout) {
            Ok(report) if pairs(&report) == *right[name].as_array().unwrap() => {}
            Ok(report) => wrong.push(format!("{name}: {}", report["pairs"])),
            Err(_) => wrong.push(format!("{name}: {}", text(&output.stderr))),
        }
    }
    assert_eq!(files, right.as_object().unwrap().len());
    assert!(wrong.is_empty(), "{} of {files}:\n{}", wrong.len(), wrong.join("\n"));
}
