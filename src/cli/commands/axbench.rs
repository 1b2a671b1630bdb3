//! `bipo judge --concept`: AxBench's protocol, three grades a text, shown as a table of the factors and the one that is chosen.

use bipo::Error;
use bipo::eval::judge::JudgeVerdict;
use bipo::eval::judge::axbench::{self, AxbenchReport, ChosenFactor, FactorScore};
use bipo::steering::magnitudes::signed;
use bipo::train::collective::Collective;
use serde::Serialize;

use super::interrupt::Interrupt;
use super::judge::{Judge, ask, no_judge, read_generations, talk};
use super::next;
use crate::args::JudgeTextsArgs;
use crate::terminal::{self, Log};

/// The result of `--json`.
#[derive(Serialize)]
struct AxBenchDocument<'a> {
    schema_version: u32,
    judge_model: &'a str,
    #[serde(flatten)]
    report: &'a AxbenchReport,
}

pub fn run(args: &JudgeTextsArgs, concept: &str, collective: &Collective) -> anyhow::Result<()> {
    let log = Log::new(args.report.verbose, args.report.quiet);
    if concept.trim().is_empty() {
        return Err(Error::Argument("--concept is empty: name what the texts should be about".into()).into());
    }
    let mut judges = Vec::new();
    for rubric in axbench::rubrics(concept.trim()) {
        // What is wrong with the judge is said once.
        let log = if judges.is_empty() { log } else { Log::new(false, true) };
        judges.push(Judge::grading_by(&args.judge, rubric, log)?.ok_or_else(no_judge)?);
    }
    let generations = read_generations(&args.texts)?;
    axbench::check(&generations)?;
    let interrupt = Interrupt::listen(log)?;
    let mut verdicts: Vec<Vec<JudgeVerdict>> = Vec::new();
    let mut judge_model = String::new();
    let mut ended = Ok(());
    for judge in &judges {
        match judge.grade(&generations, collective, &interrupt, log) {
            Ok(None) => continue,
            Ok(Some(report)) => {
                judge_model = report.judge_model;
                verdicts.push(report.verdicts);
                ended = interrupt.check().map_err(anyhow::Error::from);
            }
            Err(error) => ended = Err(error),
        }
        if ended.is_err() {
            break;
        }
    }
    if verdicts.is_empty() {
        ended?;
        next::tell(false, "ask it", &ask(args), log);
        return Ok(());
    }
    // The grades that there are, also where the judge could not go on.
    let of = |rubric: usize| verdicts.get(rubric).map_or(&[][..], Vec::as_slice);
    let report = axbench::summarise(concept.trim(), args.suppress, [of(0), of(1), of(2)]);
    match (collective.is_first(), args.report.json) {
        (false, _) => {}
        (true, true) => terminal::json(&AxBenchDocument { schema_version: 1, judge_model: &judge_model, report: &report })?,
        (true, false) => terminal::result(&to_text(&judge_model, &report))?,
    }
    ended?;
    report.chosen.iter().for_each(|chosen| talk(args, chosen.magnitude, chosen.operation, log));
    Ok(())
}

fn to_text(judge_model: &str, report: &AxbenchReport) -> String {
    let aim = if report.is_suppressed { "suppressed concept" } else { "concept" };
    let mut text = format!(
        "judge {judge_model}, AxBench's protocol, {aim} {:?}\n\nmagnitude  concept  instruction  fluency  score  texts  failed\n",
        report.concept
    );
    for row in &report.factors {
        let FactorScore { magnitude, operation, concept, instruction, fluency, score, scored, failed } = row;
        let [concept, instruction, fluency, score] =
            [concept, instruction, fluency, score].map(|mean| mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.2}")));
        let operation = if operation.is_addition() { String::new() } else { format!("  {operation}") };
        text += &format!(
            "{:>9}  {concept:>7}  {instruction:>11}  {fluency:>7}  {score:>5}  {scored:>5}  {failed:>6}{operation}\n",
            signed(*magnitude)
        );
    }
    text + &report.chosen.as_ref().map_or_else(
        || "\nno factor has a score on both halves of the prompts\n".to_owned(),
        |chosen| {
            let ChosenFactor { magnitude, chosen_with, chosen_on, score, interval, scored_on, .. } = chosen;
            let interval = interval.map_or_else(String::new, |[low, high]| format!(", 95 % interval {low:.2} to {high:.2}"));
            let factor = signed(*magnitude);
            format!(
                "\nfactor {factor}: {chosen_with:.2} on the {chosen_on} texts that it is chosen on, {score:.2} on {scored_on} others{interval}\n"
            )
        },
    )
}
