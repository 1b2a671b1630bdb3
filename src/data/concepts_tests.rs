//! Tests of the pairs of labelled answers.

use serde_json::json;

use super::*;

/// Rows of the concept 7, each with an input of its own, of which the first `shared` have an answer without it.
fn found(answers: usize, shared: usize) -> Labelled {
    let row = |at: usize, category: &str, output: &str| {
        let row = json!({
            "input": format!("input {at}"), "output": output, "category": category, "concept_genre": "text", "concept_id": 7,
        });
        Ok(row.as_object().unwrap().clone())
    };
    let with = (0..answers).map(|at| row(at, "positive", "seven"));
    let without = (0..shared).map(|at| row(at, "negative", "none"));
    labelled(with.chain(without), "7", None).unwrap()
}

#[test]
fn fewer_than_a_tenth_of_pairs_is_told_with_what_to_do() {
    let told = |answers, shared| {
        let found = found(answers, shared);
        assert_eq!((found.pairs.len(), found.skipped.len()), (shared, answers - shared));
        few_pairs(found.pairs.len(), found.skipped.len())
    };
    let expected = "1 of the 11 answers with the concept that were read have an answer without it to the same input, which makes a \
                    pair: read pairs of AxBench instead (input, winning_output, losing_output) from a path, or make some from a description";
    assert_eq!(told(11, 1).as_deref(), Some(expected));
    assert!(told(5, 0).unwrap().starts_with("0 of the 5 answers"));
    assert_eq!(told(10, 1), None);
    assert_eq!(told(3, 3), None);
}
