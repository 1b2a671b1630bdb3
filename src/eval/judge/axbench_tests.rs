//! Tests of `axbench`. The numbers are those of the formula 3/(1/c + 1/i + 1/f).

use super::*;

fn verdicts(grades: &[(&str, f32, [Option<u8>; 3])]) -> [Vec<JudgeVerdict>; 3] {
    [0, 1, 2].map(|aspect: usize| {
        let verdict = |(prompt, magnitude, grades): &(&str, f32, [Option<u8>; 3])| JudgeVerdict {
            generation: JudgedText {
                prompt: (*prompt).into(),
                magnitude: *magnitude,
                operation: Operation::Add,
                text: "text".into(),
            },
            score: grades[aspect],
            failure: None,
        };
        grades.iter().map(verdict).collect()
    })
}

fn report(is_suppressed: bool, grades: &[(&str, f32, [Option<u8>; 3])]) -> AxbenchReport {
    let [concept, instruction, fluency] = verdicts(grades);
    summarise("sevens", is_suppressed, [&concept, &instruction, &fluency])
}

fn all(concept: u8, instruction: u8, fluency: u8) -> [Option<u8>; 3] {
    [concept, instruction, fluency].map(Some)
}

#[test]
fn harmonic_mean_is_that_of_the_formula_and_0_where_one_is_0() {
    for (grades, expected) in [
        ([2.0, 2.0, 2.0], 2.0),
        ([1.0, 1.0, 1.0], 1.0),
        ([1.0, 2.0, 2.0], 1.5),
        ([1.0, 1.0, 2.0], 1.2),
        ([0.0, 2.0, 2.0], 0.0),
        ([2.0, 0.0, 0.0], 0.0),
    ] {
        assert!((harmonic_mean(grades) - expected).abs() < 1e-12, "{grades:?}");
    }
}

#[test]
fn factor_is_chosen_on_every_second_instruction_and_scored_on_the_others() {
    // a and c choose: factor 1 has 1.5 and 1.2 there, factor 2 has 2 and 0. b and d score factor 1: 2 and 0.
    let report = report(
        false,
        &[
            ("a", 1.0, all(1, 2, 2)),
            ("a", 2.0, all(2, 2, 2)),
            ("b", 1.0, all(2, 2, 2)),
            ("b", 2.0, all(2, 2, 2)),
            ("c", 1.0, all(1, 1, 2)),
            ("c", 2.0, all(2, 0, 2)),
            ("d", 1.0, all(0, 2, 2)),
            ("d", 2.0, all(2, 2, 2)),
        ],
    );
    let chosen = report.chosen.unwrap();
    assert_eq!((chosen.magnitude, chosen.chosen_on, chosen.scored_on), (1.0, 2, 2));
    assert!((chosen.chosen_with - 1.35).abs() < 1e-12 && (chosen.score - 1.0).abs() < 1e-12, "{chosen:?}");
    // The half width is 12.706 · 1.41421 / √2, with s = 1.41421 of 2 and 0, and t(1) = 12.706.
    let [low, high] = chosen.interval.unwrap();
    assert!((low - (1.0 - 12.706)).abs() < 1e-3 && (high - (1.0 + 12.706)).abs() < 1e-3);
    let [one, two] = &report.factors[..] else { panic!("{:?}", report.factors) };
    assert_eq!((one.concept, one.instruction, one.fluency), (Some(1.0), Some(1.75), Some(2.0)));
    assert!((one.score.unwrap() - (1.5 + 2.0 + 1.2 + 0.0) / 4.0).abs() < 1e-12);
    assert_eq!((two.score, two.scored, two.failed), (Some(1.5), 4, 0));
    let choosing: Vec<&str> =
        report.texts.iter().filter(|text| text.chooses).map(|text| text.generation.prompt.as_str()).collect();
    assert_eq!(choosing, ["a", "a", "c", "c"]);
}

#[test]
fn a_suppressed_concept_counts_as_2_minus_its_grade() {
    let report = report(true, &[("a", -1.0, all(0, 2, 2)), ("b", -1.0, all(1, 2, 2)), ("c", -1.0, all(2, 2, 2))]);
    let scores: Vec<Option<f64>> = report.texts.iter().map(|text| text.score).collect();
    assert_eq!(scores, [Some(2.0), Some(1.5), Some(0.0)]);
    assert_eq!((report.factors[0].concept, report.texts[0].concept), (Some(1.0), Some(0)));
    assert_eq!(report.chosen.map(|chosen| (chosen.chosen_with, chosen.score)), Some((1.0, 1.5)));
}

#[test]
fn a_text_that_lacks_a_grade_has_no_score_and_factor_0_is_not_chosen() {
    let partial = [Some(2), None, Some(2)];
    let report = report(
        false,
        &[
            ("a", 0.0, all(2, 2, 2)),
            ("b", 0.0, all(2, 2, 2)),
            ("a", 1.0, all(1, 1, 1)),
            ("b", 1.0, all(1, 1, 1)),
            ("a", 3.0, all(1, 1, 1)),
            ("b", 3.0, all(2, 2, 2)),
            ("a", 4.0, all(2, 2, 2)),
            ("b", 4.0, partial),
        ],
    );
    // Factors 1 and 3 are equal where they are chosen: the smaller one is taken. Factor 4 has no score on the other half.
    assert_eq!(report.chosen.as_ref().map(|chosen| (chosen.magnitude, chosen.score, chosen.interval)), Some((1.0, 1.0, None)));
    assert_eq!((report.failures, report.factors[3].scored, report.factors[3].failed), (1, 1, 1));
    assert_eq!(report.factors[3].concept, Some(2.0));
    let alone = &report.texts[..2].iter().map(|text| text.generation.clone()).collect::<Vec<_>>();
    assert!(check(alone).is_ok() && check(&alone[..1]).is_err() && check(&[]).is_err());
}

#[test]
fn grades_of_the_first_rubric_are_there_where_the_judge_came_no_further() {
    let [concept, ..] = verdicts(&[("a", 1.0, all(1, 0, 0)), ("b", 1.0, all(2, 0, 0))]);
    let report = summarise("sevens", false, [&concept, &[], &[]]);
    let FactorScore { concept, instruction, fluency, score, scored, failed, .. } = &report.factors[0];
    assert_eq!((*concept, *instruction, *fluency, *score), (Some(1.5), None, None, None));
    assert_eq!((*scored, *failed, report.chosen), (0, 2, None));
}

#[test]
fn rubrics_are_of_three_grades_and_hold_the_concept_once() {
    let all = rubrics("the number seven");
    assert_eq!(all.iter().filter(|rubric| rubric.text.contains("the number seven")).count(), 1);
    for rubric in &all {
        let begins = |grade: u8| rubric.text.lines().any(|line| line.starts_with(&format!("{grade}: ")));
        assert!(rubric.scale == (0..=2) && (0..=2).all(begins) && !begins(3), "{}", rubric.text);
    }
}
