//! `bipo eval`: reads the vector, its baselines and what they are measured on, encodes all of it before a model is loaded, and
//! shows the report.

use std::path::Path;

use bipo::eval::bootstrap::Bootstrap;
use bipo::eval::judge::JudgedText;
use bipo::eval::{
    Budget, EvalOutcome, EvalReport, GeneratedText, Settings, Subject, Treatment, calibrate_subjects, demand, evaluate, texts,
};
use bipo::machine::files::write_atomic;
use bipo::report::Chart;
use bipo::steering::Operation;
use bipo::steering::magnitudes::{UsualMagnitudes, signed};
use bipo::steering::vector::SteeringVector;
use bipo::train::collective::Collective;
use bipo::{Error, Result};
use serde_json::json;

use super::evaluation::inputs::Inputs;
use super::evaluation::page::{for_page, page};
use super::evaluation::settings::{described, magnitudes, vector_beta};
use super::evaluation::subjects::{VECTOR, baselines, check_reaches, note_of_text, subjects};
use super::evaluation::writer::{Writer, warn_of_failures};
use super::interrupt::Interrupt;
use super::judge::Judge;
use super::next;
use super::outputs::check_outputs;
use super::page;
use super::ranks::check_same;
use super::session;
use super::sweep::greedy;
use super::vectors::{
    check_added, check_vector, check_when, furthest_note, read_inputs, read_when, settle, strength_note, warn_of_calibration,
};
use crate::args::{EvalArgs, SkipArg, response_prefix};
use crate::terminal::{self, Log};

pub fn run(args: &EvalArgs, collective: &Collective) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    check_files(args)?;
    let judge = Judge::new(&args.judge, log)?;
    if judge.is_some() && args.skip.contains(&SkipArg::Generation) {
        return Err(Error::Argument("--skip generation leaves a judge nothing to grade: leave one of them out".into()).into());
    }
    let vectors = read_inputs(&args.steering.source.vector, args.steering.source.layer, log)?;
    let (vector_settings, subject) = (page::vector_settings(&vectors), page::subject(&vectors));
    let vector = settle(vectors, args.steering.source.said())?;
    let when = read_when(args.steering.when.as_ref())?;
    let baselines = baselines(args, &vector, log)?;
    let (inputs, mut opened) = collective.in_turn(|| {
        Ok((Inputs::read(args, log)?, session::open(&args.model, response_prefix(&args.encoding.response_prefix), log)?))
    })?;
    check_vector(&vector, &opened, log)?;
    check_when(when.as_ref(), &opened, log)?;
    warn_of_calibration(args.steering.magnitudes.as_ref(), &vector, &opened, log);
    if args.at.is_none() {
        furthest_note(&vector, &args.steering.magnitudes_of(&vector.metadata, UsualMagnitudes::Measured)?)
            .iter()
            .for_each(|note| log.warn(note));
    }
    let material = inputs.material(args, &opened)?;
    session::warn_of_pairs(&opened, material.pairs, log);
    let mut subjects = subjects(args, &vector, &baselines, (&material, &inputs), &mut opened, log)?;
    check_reaches(&subjects, &inputs, log)?;
    check_budget(args, &subjects)?;
    note_of_text(&subjects, &material, args.steering.when.is_some(), log);
    let demand = |streams| demand(&subjects, streams, args.max_new_tokens, collective);
    let texts = texts(&subjects);
    let streams = opened.most_streams(texts.all, texts.a_prompt, demand);
    let settings = Settings {
        beta: vector_beta(args.beta, &vector),
        when,
        bootstrap: Bootstrap { resamples: args.bootstrap, seed: args.seed },
        generate: greedy(args.max_new_tokens, &opened, vector.metadata.positions),
        streams,
        collective: collective.clone(),
    };
    let mut identity = described(args, &opened, &inputs, &subjects, &settings);
    identity["material"] = subjects.iter().map(Subject::fingerprint).collect();
    check_same(collective, &identity, &opened, log)?;
    let (model, _) = session::load(&opened, &demand(streams), log)?;
    let interrupt = Interrupt::listen(log)?;
    let mut calibrated = None;
    if let Some(budget) = args.at {
        let found = calibrate_subjects(&model, &material, &mut subjects, budget, &settings, &mut || interrupt.check())?;
        if let Some(name) = found.unreached.first() {
            return Err(Error::Argument(format!("{name} reaches {budget} in neither direction: choose another --at")).into());
        }
        say_magnitudes(&subjects, budget, log);
        found.shortfall(budget).iter().for_each(|line| log.warn(line));
        calibrated = Some((found, budget));
    }
    let mut writer = Writer::new(args, log, &interrupt);
    let outcome = evaluate(&model, &opened.encoder, &material, &subjects, &settings, &mut writer);
    writer.finish();
    let outcome = outcome?;
    say_times(&outcome, log);
    let EvalOutcome { mut rows, generations, timings, stopped, .. } = outcome;
    calibrated.iter().for_each(|(found, budget)| found.add_to(&mut rows, *budget));
    let mut described = described(args, &opened, &inputs, &subjects, &settings);
    if let Some(error) = &stopped {
        described["ended_early"] = json!(error.to_string());
    }
    let mut report = EvalReport { schema_version: 2, settings: described, rows, generations, timings };
    warn_of_failures(&report, &opened, log);
    // What was measured is shown whatever becomes of the judge.
    let judge = judge.filter(|_| stopped.is_none());
    let judged =
        judge.map_or(Ok(()), |judge| grade(&judge, &mut report, vector.metadata.operation, (collective, &interrupt), log));
    // Shown before the files are written, so that neither takes the other with it.
    let shown = match (collective.is_first(), args.model.json) {
        (false, _) => Ok(()),
        (true, true) => terminal::json(&report),
        (true, false) => terminal::result(&report.to_text()),
    };
    // Nor does one file that cannot be written keep the others from it.
    let mut written: Vec<Result<()>> = Vec::new();
    written.extend(args.csv.as_ref().map(|path| write_atomic(path, &report.to_csv()?)));
    written.extend(args.plot.iter().map(|path| report.chart().write(path)));
    let page = args.report.as_ref().map(|path| {
        let settings =
            [page::model_settings(&args.model, &opened), vector_settings, for_page(args, &inputs, &subjects, &settings)];
        let measured_on = inputs.dataset.as_ref().map_or_else(String::new, |set| format!(", measured on {}", set.name));
        let title = format!("{subject} of {}{measured_on}", opened.files.name);
        (page(args, title, magnitudes(&subjects), settings.concat(), &report), path)
    });
    written.extend(page.map(|(page, path)| page.write(path)));
    // Where another rank has ended the job, no rank waits for this one's end.
    if let Some(ended @ Error::Ended(_)) = stopped {
        return Err(ended.into());
    }
    if judged.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(Error::Ended(_)))) {
        return judged;
    }
    shown?;
    written.into_iter().collect::<Result<()>>()?;
    judged?;
    stopped.map_or(Ok(()), |error| Err(anyhow::Error::from(error)))?;
    // Magnitudes that were found within a budget need no other limit.
    if args.at.is_none() {
        warn_of_doses(&vector, &report, log);
    }
    let (what, command) = match args.report {
        None => ("as a page", format!("{} --report page.html", next::again("eval"))),
        Some(_) => next::after_steering(&args.steering.source, &vector),
    };
    next::tell(args.model.json, what, &command, log);
    Ok(())
}

/// Says so where the vector, which has no calibration that says it better, is long beside what it is added to.
fn warn_of_doses(vector: &SteeringVector, report: &EvalReport, log: Log) {
    let own = report.rows.iter().filter(|row| row.subject == VECTOR && vector.metadata.calibration.is_none());
    let doses: Vec<(f32, f64)> = own.filter_map(|row| Some((row.magnitude?, row.get("dose")?.estimate.value))).collect();
    strength_note(vector, &doses).iter().for_each(|note| log.warn(note));
}

/// Adds a judge's scores to the report.
fn grade(
    judge: &Judge,
    report: &mut EvalReport,
    operation: Operation,
    (collective, interrupt): (&Collective, &Interrupt),
    log: Log,
) -> anyhow::Result<()> {
    let generation = |text: &GeneratedText| JudgedText {
        prompt: text.prompt.clone(),
        magnitude: text.magnitude.unwrap_or_default(),
        operation,
        text: text.text.clone(),
    };
    let generations: Vec<JudgedText> = report.generations.iter().map(generation).collect();
    if let Some(judged) = judge.grade(&generations, collective, interrupt, log)? {
        report.settings["judge"] = json!({"model": judged.judge_model, "rubric": judged.rubric});
        report.add_scores(&judged.verdicts);
    }
    Ok(interrupt.check()?)
}

/// Refuses what could not be written in the end.
fn check_files(args: &EvalArgs) -> Result<()> {
    let sets = args.dataset.iter().map(|set| ("--dataset", Path::new(set))).filter(|(_, set)| set.exists());
    let files = [("--prompts", &args.asked.prompts), ("--text", &args.text)]
        .into_iter()
        .filter_map(|(flag, path)| Some((flag, path.as_deref()?)));
    let rest = args.against.iter().map(|set| ("--against", Path::new(set))).filter(|(_, set)| set.exists());
    let questions = args.mc.iter().map(|set| ("--mc", Path::new(set))).filter(|(_, set)| set.exists());
    let written = [("--csv", &args.csv), ("--per-pair", &args.per_pair), ("--report", &args.report)];
    check_outputs(&written, &args.steering, sets.chain(files).chain(rest).chain(questions))?;
    args.plot.iter().try_for_each(|path| Chart::check_path(path))?;
    if args.against.is_some() && args.skip.contains(&SkipArg::Generation) {
        let problem = "--against is measured on answers that are generated: leave --skip generation out";
        return Err(Error::Argument(problem.into()));
    }
    if args.per_pair.is_some() && args.dataset.is_none() {
        return Err(Error::Argument("--per-pair needs pairs: give --dataset".into()));
    }
    Ok(())
}

/// Refuses a budget that is not measured here, or not for one of the vectors.
fn check_budget(args: &EvalArgs, subjects: &[Subject]) -> Result<()> {
    let Some(budget) = args.at else { return Ok(()) };
    let skipped = match budget {
        Budget::Perplexity(_) => (SkipArg::Text, "is measured on the neutral text: leave --skip text out"),
        _ => (SkipArg::Generation, "is measured on generated texts: leave --skip generation out"),
    };
    if args.skip.contains(&skipped.0) {
        return Err(Error::Argument(format!("--at {budget} {}", skipped.1)));
    }
    for subject in subjects {
        if let Treatment::Vector(vector, _) = &subject.treatment {
            check_added("--at", vector)?;
            budget.check_places(vector.metadata.positions, vector.metadata.spans)?;
        }
    }
    Ok(())
}

fn say_magnitudes(subjects: &[Subject], budget: Budget, log: Log) {
    for subject in subjects {
        if let Treatment::Vector(_, magnitudes) = &subject.treatment {
            let found: Vec<String> = magnitudes.iter().filter(|m| **m != 0.0).map(|m| signed(*m)).collect();
            log.info(format!("{} within {budget}: magnitudes {}", subject.name, found.join(" and ")));
        }
    }
}

fn say_times(outcome: &EvalOutcome, log: Log) {
    let t = &outcome.timings;
    if let Some(pairs_per_s) = t.pairs_per_s {
        log.info(format!(
            "{} pairs through the upper blocks in {:.1} s: {pairs_per_s:.1} pairs/s; cached in {:.1} s",
            t.scored_pairs, t.score_s, t.cache_s
        ));
    }
    log.detail(format!("questions {:.1} s, text {:.1} s, generation {:.1} s", t.choice_s, t.text_s, t.generate_s));
}
