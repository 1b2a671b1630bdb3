//! Tests of `choice`.

use super::*;

const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 50, seed: 1 };

fn set(questions: Vec<(usize, usize, Key)>) -> QuestionSet {
    let question = |(row, answers, key)| Question { row, prompt: "q".into(), answers: vec!["a".to_owned(); answers], key };
    QuestionSet { name: "set".into(), questions: questions.into_iter().map(question).collect(), ..QuestionSet::default() }
}

fn values(set: &QuestionSet, scores: &[PairLogProbs]) -> Vec<(String, f64)> {
    measures(set, scores, &BOOTSTRAP).into_iter().map(|measure| (measure.name, measure.estimate.value)).collect()
}

/// As the benchmark's code has it for scores_true = [ln 2, ln 1] and scores_false = [ln 4, ln 3, ln 2]: MC1 = 0,
/// MC2 = 3/12; with the best answer at ln 8: MC1 = 1, MC2 = 9/18. Far below zero, where exp alone gives 0/0.
#[test]
fn truthfulqa_is_scored_as_the_benchmark_does() {
    let key = || Key::Truthful { best: 0, mc1_wrong: vec![2, 3, 4], mc2_right: vec![0, 1], mc2_wrong: vec![2, 3, 4] };
    let ln = |x: f64| x.ln() - 5000.0;
    let scores = [2.0, 8.0].map(|best| [[ln(best), ln(1.0)], [ln(4.0), ln(3.0)], [ln(2.0); 2]]).concat();
    let found = values(&set(vec![(0, 5, key()), (1, 5, key())]), &scores);
    assert_eq!(found[0], ("set.mc1".to_owned(), 0.5));
    assert!(found[1].0 == "set.mc2" && (found[1].1 - 0.375).abs() < 1e-9, "{found:?}");
}

#[test]
fn a_tie_with_a_false_answer_is_no_best_answer() {
    let key = Key::Truthful { best: 0, mc1_wrong: vec![1], mc2_right: vec![0], mc2_wrong: vec![1] };
    assert_eq!(values(&set(vec![(0, 2, key)]), &[[-1.0, -1.0]]), [("set.mc1".into(), 0.0), ("set.mc2".into(), 0.5)]);
}

#[test]
fn both_orders_of_an_item_are_averaged() {
    let item = set(vec![(0, 2, Key::Letters { matching: 0 }), (0, 2, Key::Letters { matching: 1 })]);
    // A model that always says A has no leaning.
    let found = values(&item, &[[0.9_f64.ln(), 0.1_f64.ln()], [0.9_f64.ln(), 0.1_f64.ln()]]);
    assert!(found[0].0 == "set.matching" && (found[0].1 - 0.5).abs() < 1e-12);
}

#[test]
fn the_right_option_must_be_the_likeliest() {
    let sets = set(vec![(0, 4, Key::Options { right: 3 }), (1, 4, Key::Options { right: 0 })]);
    let scores = [[-4.0, -3.0], [-2.0, -1.0], [-4.0, -3.0], [-2.0, -1.0]];
    assert_eq!(values(&sets, &scores), [("set.accuracy".into(), 0.5)]);
}

/// lm-evaluation-harness: acc takes the highest log-probability, acc_norm the highest per character.
#[test]
fn texts_are_compared_by_sum_and_by_character() {
    let answers = ["short", "a longer answer"].map(str::to_owned).to_vec();
    let question = |right| Question { row: right, prompt: "q".into(), answers: answers.clone(), key: Key::Texts { right } };
    let set = QuestionSet { name: "set".into(), questions: vec![question(0), question(1)], ..QuestionSet::default() };
    // -10 / 5 = -2 and -15 / 15 = -1.
    let scores = [[-10.0, -15.0], [-10.0, -15.0]];
    assert_eq!(values(&set, &scores), [("set.acc".into(), 0.5), ("set.acc_norm".into(), 0.5)]);
    let only = |right| QuestionSet { name: "set".into(), questions: vec![question(right)], ..QuestionSet::default() };
    assert_eq!(values(&only(0), &scores), [("set.acc".into(), 1.0), ("set.acc_norm".into(), 0.0)]);
    assert_eq!(values(&only(1), &scores), [("set.acc".into(), 0.0), ("set.acc_norm".into(), 1.0)]);
}
