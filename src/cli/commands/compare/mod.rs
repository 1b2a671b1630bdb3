//! `bipo compare`: a vector by each method from the same pairs, all brought to the same damage and measured on the same held-out
//! pairs. `vectors` gets the vectors, and keeps each as soon as it is there.
//!
//! It measures nothing itself: that is the library's `eval::compare`. Begin with [`run`].

mod subjects;
mod vectors;

use std::collections::BTreeSet;

use bipo::data::{Dataset, Pair};
use bipo::eval::bootstrap::Bootstrap;
use bipo::eval::damage::NEUTRAL_TEXT;
use bipo::eval::{
    CALIBRATION_TOKENS, Candidate, Comparison, EvalMaterial, EvalObserver, EvalOutcome, EvalReport, EvalRow, Settings, Subject,
    Treatment, calibrate_subjects, evaluate, verdict,
};
use bipo::machine::files::check_writable;
use bipo::report::{Chart, Page};
use bipo::session::{Demand, Session};
use bipo::steering::lens::NEUTRAL_PROMPTS;
use bipo::steering::positions::Positions;
use bipo::text::tokens::{EncodedPair, added_bos};
use bipo::train::TrainConfig;
use bipo::train::collective::Collective;
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::evaluation::page::intervals;
use super::evaluation::subjects::{encode, note_of_text};
use super::evaluation::writer::warn_of_failures;
use super::interrupt::Interrupt;
use super::next;
use super::page;
use super::prompts::UserPrompt;
use super::provenance;
use super::ranks::check_same;
use super::run::{self, Prepared};
use super::sweep::greedy;
use super::training::TEST_PROMPT;
use super::training::settings::{default_layer, describe};
use super::vectors::{check_when, read_when};
use crate::args::{CompareArgs, OF_METHODS, given_of};
use crate::terminal::{self, Log, Parts};
use subjects::subjects;
use vectors::{Filled, Plan, Store};

pub fn run(args: &CompareArgs, collective: &Collective) -> anyhow::Result<()> {
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    let plan = Plan::new(args)?;
    refuse_settings_of_methods()?;
    args.report.iter().try_for_each(|path| check_writable(path))?;
    args.plot.iter().try_for_each(|path| Chart::check_path(path))?;
    let when = read_when(args.when.as_ref())?;
    let Prepared { mut opened, dataset, heldout, pairs, heldout_pairs, .. } =
        collective.in_turn(|| Prepared::new(&args.run, log))?;
    check_when(when.as_ref(), &opened, log)?;
    let learned_from = heldout.as_ref().zip(heldout_pairs);
    let (pairs, held, held_name) = run::hold_out(pairs, learned_from, &dataset, args.run.seed, log)?;
    let held = texts_of(heldout.as_ref().unwrap_or(&dataset), &held);
    let layer = args.layer.unwrap_or_else(|| default_layer(&opened));
    let mut base = run::config(&args.run, &opened, layer.into(), None, args.output_dir.clone())?;
    run::share(&mut base, &args.run, collective);
    let mut store = Store::new(args, base, &dataset, &pairs, log);
    let condition = args.when.as_ref().zip(when.as_ref()).map(|(file, when)| provenance::described(file, when));
    let mut identity = store.identity(&plan, &held, &opened);
    identity["when"] = json!(condition);
    check_same(collective, &identity, &opened, log)?;
    let known = store.open(&plan, &opened)?;
    store.warn_of_warmup(&plan, &known);

    let asked = NEUTRAL_PROMPTS.map(UserPrompt::new);
    let prompts: Vec<String> = NEUTRAL_PROMPTS.map(String::from).into();
    let context = opened.config.max_position_embeddings;
    let material = EvalMaterial {
        pairs: &held,
        questions: &[],
        text: NEUTRAL_TEXT,
        bos: added_bos(opened.encoder.tokenizer())?,
        prompts: &prompts,
        answers: &[],
        max_length: args.run.encoding.max_length.min(context),
        context,
    };
    let everywhere = encode(&material, &asked, (Positions::All, None), &mut opened)?;
    let (streams, demand) =
        demand(args, &store.largest(&plan), [&pairs, everywhere.pairs()], everywhere.longest_prompt(), &opened);
    let (model, _) = run::load(&opened, &mut store.base, demand, log)?;
    let interrupt = Interrupt::listen(log)?;

    let Filled { made, mut left_out } = store.fill(known, &plan, (&model, &mut opened), &interrupt)?;
    let subjects = subjects(&plan, made, (&material, &asked, &everywhere), (&mut opened, args.run.seed), log)?;
    let (mut subjects, mut candidates): (Vec<Subject>, Vec<Candidate>) = subjects.into_iter().unzip();
    let settings = Settings {
        when,
        beta: store.base.beta,
        bootstrap: Bootstrap { resamples: args.bootstrap, seed: args.run.seed },
        generate: greedy(args.max_new_tokens, &opened, Positions::All),
        streams,
        collective: collective.clone(),
    };
    log.info(format!("finding the magnitudes of each vector within {}", args.at));
    let calibrated = calibrate_subjects(&model, &material, &mut subjects, args.at, &settings, &mut || interrupt.check())?;
    calibrated.shortfall(args.at).iter().for_each(|line| log.warn(line));
    let unreached = &calibrated.unreached;
    subjects.retain(|subject| !unreached.contains(&subject.name));
    candidates.retain(|candidate| !unreached.contains(&candidate.name));
    left_out.extend(unreached.iter().map(|name| format!("{name} is left out: it reaches {} in neither direction", args.at)));
    left_out.iter().for_each(|line| log.warn(line));
    let Some(Subject { name: first, treatment: Treatment::Vector(..), .. }) = subjects.first() else {
        return Err(Error::Argument(format!("nothing to compare at {}: {}", args.at, left_out.join("; "))).into());
    };
    note_of_text(&subjects, &material, args.when.is_some(), log);
    let mut watch = Watch { parts: Parts::new(log), interrupt: &interrupt };
    let outcome = evaluate(&model, &opened.encoder, &material, &subjects, &settings, &mut watch);
    watch.parts.finish();
    let EvalOutcome { mut rows, pairs: lines, generations, timings, stopped } = outcome?;
    calibrated.add_to(&mut rows, args.at);
    let mut described = json!({
        "model": opened.files.name,
        "dtype": opened.placement.dtype_name(),
        "device": opened.placement.device_kind(),
        "dataset": describe(&dataset),
        "heldout": held_name,
        "heldout_pairs": held.len(),
        "layer": layer,
        "at": args.at.to_string(),
        "beta": settings.beta,
        "bootstrap": settings.bootstrap,
        "seed": args.run.seed,
        "ended_early": stopped.as_ref().map(ToString::to_string),
    });
    if let Some(condition) = condition {
        described["when"] = condition;
    }
    let verdict = verdict(&lines, first, settings.beta, &settings.bootstrap).into_iter().chain(left_out).collect();
    let report = EvalReport { schema_version: 2, settings: described, rows, generations, timings };
    warn_of_failures(&report, &opened, log);
    let comparison = Comparison { schema_version: 2, candidates, verdict, report };
    if collective.is_first() {
        show(args, &opened, &comparison)?;
    }
    stopped.map_or(Ok(()), |error| Err(error.into()))
}

/// Prints the comparison, and writes its page and its picture.
fn show(args: &CompareArgs, opened: &Session, comparison: &Comparison) -> anyhow::Result<()> {
    let written = args.report.as_ref().map_or(Ok(()), |path| {
        let settings = [page::model_settings(&args.run.model, opened), settings_in_words(args, comparison)].concat();
        page_of(args, opened, settings, comparison).write(path)
    });
    match args.run.model.json {
        true => terminal::json(comparison)?,
        false => terminal::result(&comparison.to_text())?,
    }
    // Last, so that a file that cannot be written takes no result with it.
    let drawn = args.plot.iter().try_for_each(|path| comparison.chart().write(path));
    say_next(args, comparison);
    Ok(written.and(drawn)?)
}

/// Names the command that steers by the vector that moves the pairs most, at its magnitudes.
fn say_next(args: &CompareArgs, comparison: &Comparison) {
    let is_learned = |name: &str| comparison.candidates.iter().any(|it| it.name == name && it.learned.is_some());
    let moved = |row: &EvalRow| Some(row.get("margin")?.estimate.value * f64::from(row.magnitude?).signum());
    let learned = comparison.report.rows.iter().filter(|row| is_learned(&row.subject) && row.magnitude != Some(0.0));
    let best = learned.filter_map(|row| Some((row, moved(row)?))).max_by(|(_, a), (_, b)| a.total_cmp(b));
    let Some((best, _)) = best else { return };
    let magnitudes = comparison.report.rows.iter().filter(|row| row.subject == best.subject).filter_map(|row| row.magnitude);
    let mut magnitudes: Vec<f32> = magnitudes.chain([0.0]).collect();
    magnitudes.sort_by(f32::total_cmp);
    magnitudes.dedup();
    let magnitudes: Vec<String> = magnitudes.iter().map(f32::to_string).collect();
    let vector = vectors::file(args, &best.subject).display().to_string();
    let command = next::with(&next::of_model("steer"), "--vector", &vector);
    let command = next::with(&command, "--magnitudes", &magnitudes.join(","));
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    next::tell(args.run.model.json, "try the best", &format!("{command} --prompt \"{TEST_PROMPT}\""), log);
}

/// How many texts are generated at once, and the memory that the comparison takes: one set of pairs is cached at a time, and the first
/// vector has three magnitudes, with 0 between the others.
fn demand(
    args: &CompareArgs,
    largest: &TrainConfig,
    sets: [&[EncodedPair]; 2],
    longest: usize,
    opened: &Session,
) -> (usize, Demand) {
    let tokens = |set: &&[EncodedPair]| set.iter().map(|pair| pair.chosen.ids.len() + pair.rejected.ids.len()).sum::<usize>();
    let set = sets.into_iter().max_by_key(tokens).unwrap_or_default();
    // A token holds a byte at least.
    let longest = longest + args.baseline_system.as_ref().map_or(0, String::len);
    let new_tokens = args.max_new_tokens.max(CALIBRATION_TOKENS);
    let demand = |streams| run::demand(&[set], largest).and_generation(streams, longest, new_tokens);
    let streams = opened.most_streams(3 * NEUTRAL_PROMPTS.len(), 3, demand);
    (streams, demand(streams))
}

/// The pairs of a data set whose encoded forms these are.
fn texts_of(dataset: &Dataset, encoded: &[EncodedPair]) -> Vec<Pair> {
    let rows: BTreeSet<usize> = encoded.iter().map(|pair| pair.row).collect();
    dataset.pairs.iter().filter(|pair| rows.contains(&pair.row)).cloned().collect()
}

/// A flag that would change one method alone is a misunderstanding.
fn refuse_settings_of_methods() -> Result<()> {
    let found = given_of(&OF_METHODS);
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::Argument(format!(
            "{}: each method has its own here: leave it to them, or train that vector with `bipo train` and compare it with `bipo eval --at`",
            found.join(", ")
        ))),
    }
}

fn settings_in_words(args: &CompareArgs, comparison: &Comparison) -> Vec<(String, String)> {
    let of = |key: &str| match &comparison.report.settings[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let all = [
        ("pairs to learn from", args.run.dataset.clone()),
        ("held-out pairs", format!("{} ({})", of("heldout"), of("heldout_pairs"))),
        ("layer", of("layer")),
        ("magnitudes", format!("the largest within {}", args.at)),
        ("intervals", intervals(args.bootstrap)),
    ];
    let when = args.when.clone().map(|when| ("steered when", when));
    all.into_iter().chain(when).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn page_of(args: &CompareArgs, opened: &Session, settings: Vec<(String, String)>, comparison: &Comparison) -> Page {
    let names: Vec<&str> = comparison.candidates.iter().map(|candidate| candidate.name.as_str()).collect();
    Page {
        title: format!(
            "{}: methods compared at layer {} on {}",
            opened.files.name, comparison.report.settings["layer"], args.run.dataset
        ),
        summary: format!("{} at {}.", names.join(", "), args.at),
        command: page::command_line(),
        seed: Some(args.run.seed),
        settings,
        sections: comparison.sections(),
    }
}

/// The progress of the measurements.
struct Watch<'a> {
    parts: Parts,
    interrupt: &'a Interrupt,
}

impl EvalObserver for Watch<'_> {
    fn progress(&mut self, part: &'static str, done: usize, total: usize) -> Result<()> {
        self.parts.set(part, done, total);
        self.interrupt.check()
    }

    fn pass(&mut self) -> Result<()> {
        self.interrupt.check()
    }

    fn measured(&mut self, _: &EvalOutcome) -> Result<()> {
        self.interrupt.check()
    }
}
