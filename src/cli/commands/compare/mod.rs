//! `bipo compare`: a vector by each method from the same pairs, all brought to the same damage and measured on the same held-out
//! pairs. `vectors` gets the vectors, and keeps each as soon as it is there.

mod vectors;

use std::collections::BTreeSet;

use bipo::data::Pair;
use bipo::eval::bootstrap::Bootstrap;
use bipo::eval::damage::NEUTRAL_TEXT;
use bipo::eval::{
    CALIBRATION_TOKENS, Candidate, Comparison, EvalObserver, Material, Outcome, Report, Settings, Subject, Treatment, baseline,
    calibrate_subjects, evaluate, verdict,
};
use bipo::generate::STREAMS;
use bipo::machine::files::check_writable;
use bipo::report::Page;
use bipo::session::Session;
use bipo::steering::Operation;
use bipo::steering::lens::NEUTRAL_PROMPTS;
use bipo::steering::positions::Positions;
use bipo::text::tokens::{EncodedPair, added_bos};
use bipo::train::layer_search::hold_out;
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use super::page;
use super::prompts::check_prompts;
use super::run::{self, Prepared};
use super::session;
use super::sweep::greedy;
use super::training::settings::{default_layer, describe};
use crate::args::{CompareArgs, OF_METHODS, given};
use crate::terminal::{self, Log, Progress};
use vectors::{Made, Plan, Store};

pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    let plan = Plan::new(args)?;
    refuse_settings_of_methods()?;
    args.report.iter().try_for_each(|path| check_writable(path))?;
    let Prepared { mut opened, dataset, heldout, pairs, .. } = Prepared::new(&args.run, log)?;
    let (pairs, held, held_name) = match &heldout {
        Some(set) => (pairs, set.pairs.clone(), set.name.clone()),
        None => {
            let (pairs, held) = hold_out(pairs, args.run.seed)?;
            let rows: BTreeSet<usize> = held.iter().map(|pair| pair.row).collect();
            let held: Vec<Pair> = dataset.pairs.iter().filter(|pair| rows.contains(&pair.row)).cloned().collect();
            let name = format!("{} of {}'s own pairs, drawn with seed {}", held.len(), dataset.name, args.run.seed);
            log.info(format!("no --eval-dataset: held out {name}"));
            (pairs, held, name)
        }
    };
    let layer = args.layer.unwrap_or_else(|| default_layer(&opened));
    let mut base = run::config(&args.run, &opened, layer.into(), None, args.output_dir.clone())?;
    let known = Store { args, base: &base, dataset: &dataset, pairs: &pairs, log }.open(&plan, &opened)?;

    let prompts: Vec<String> = NEUTRAL_PROMPTS.map(String::from).to_vec();
    let context = opened.config.max_position_embeddings;
    let material = Material {
        pairs: &held,
        questions: &[],
        text: NEUTRAL_TEXT,
        bos: added_bos(opened.encoder.tokenizer())?,
        prompts: &prompts,
        max_length: args.run.max_length.min(context),
        context,
    };
    let longest = check_prompts(&opened, &prompts, Positions::All)?.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
    let longest = longest + args.baseline_system.as_ref().map_or(0, String::len);
    let held_encoded = material.encode(&opened.encoder)?;
    // One set is cached at a time. The first vector has three magnitudes, with 0 between the others.
    let demand = |streams| {
        let sets = [pairs.as_slice(), held_encoded.pairs()];
        let largest = sets
            .into_iter()
            .max_by_key(|set| set.iter().map(|pair| pair.chosen.ids.len() + pair.rejected.ids.len()).sum::<usize>());
        let learning = run::demand(&[largest.unwrap_or_default()], &plan.largest(&base));
        learning.and_generation(streams, longest, args.max_new_tokens.max(CALIBRATION_TOKENS))
    };
    let streams = opened.most_streams((3 * prompts.len()).min(STREAMS), 3, demand);
    let demand = demand(streams);
    let (model, _) = run::load(&opened, &mut base, demand, log)?;
    let interrupt = Interrupt::listen(log)?;

    let store = Store { args, base: &base, dataset: &dataset, pairs: &pairs, log };
    let made = store.fill(known, &plan, (&model, &mut opened), &interrupt)?;
    let Some(first) = made.first().map(|made| made.vector.clone()) else {
        return Err(Error::NotFinite("every method failed: there is nothing to compare".into()).into());
    };
    let (mut subjects, mut candidates) = (Vec::new(), Vec::new());
    let random = plan.random.then(|| Made::of_random(baseline::random(&first, args.run.seed)));
    for made in made.into_iter().chain(random) {
        let known = &made.vector.metadata;
        opened.encoder.tell_places(known.spans, known.positions.ends());
        candidates.push(made.candidate());
        let encoded = material.encode(&opened.encoder)?;
        subjects.push(Subject { name: made.name, treatment: Treatment::Vector(Box::new(made.vector), Vec::new()), encoded });
    }
    if let Some(text) = &plan.system {
        session::warn_of_dropped_system(&opened, text, log);
        opened.encoder.tell_places(None, None);
        opened.encoder.set_system(Some(text.clone()));
        let encoded = material.encode(&opened.encoder)?;
        opened.encoder.set_system(args.run.model.system.clone());
        let treatment = Treatment::System(opened.encoder.encode_text(&format!("{text}\n\n"))?);
        subjects.push(Subject { name: "prompt".into(), treatment, encoded });
        let (positions, norm) = (None, None);
        candidates.push(Candidate { name: "prompt".into(), positions, norm, steps: 0, seconds: 0.0, bytes: text.len() as u64 });
    }
    let settings = Settings {
        beta: base.beta,
        bootstrap: Bootstrap { resamples: args.bootstrap, seed: args.run.seed },
        operation: Operation::Add,
        generate: greedy(args.max_new_tokens, &opened, Positions::All),
        streams,
    };
    log.info(format!("finding the magnitudes of each vector within {}", args.at));
    let unreached = calibrate_subjects(&model, &material, &mut subjects, args.at, &settings, &mut || interrupt.check())?;
    for name in &unreached {
        log.warn(format!("{name} reaches {} in neither direction and is left out", args.at));
    }
    subjects.retain(|subject| !unreached.contains(&subject.name));
    candidates.retain(|candidate| !unreached.contains(&candidate.name));
    let Some(Subject { name: first, treatment: Treatment::Vector(..), .. }) = subjects.first() else {
        return Err(Error::Argument(format!("no vector reaches {}: choose another --at", args.at)).into());
    };
    let mut watch = Watch { log, interrupt: &interrupt, shown: None };
    let outcome = evaluate(&model, &opened.encoder, &material, &subjects, &settings, &mut watch);
    watch.finish();
    let Outcome { rows, pairs: lines, generations, timings, stopped } = outcome?;
    let described = json!({
        "model": opened.files.name,
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
    let verdict = verdict(&lines, first, settings.beta, &settings.bootstrap);
    let report = Report { schema_version: 1, settings: described, rows, generations, timings };
    let comparison = Comparison { schema_version: 1, candidates, verdict, report };
    let written = args.report.as_ref().map_or(Ok(()), |path| {
        let settings = [page::model_settings(&args.run.model, &opened), settings_in_words(args, &comparison)].concat();
        page_of(args, &opened, settings, &comparison).write(path)
    });
    match args.run.model.json {
        true => terminal::json(&comparison)?,
        false => terminal::result(&comparison.to_text())?,
    }
    // Last, so that a page that cannot be written takes no result with it.
    written?;
    stopped.map_or(Ok(()), |error| Err(error.into()))
}

/// A flag that would change one method alone is a misunderstanding.
fn refuse_settings_of_methods() -> Result<()> {
    let is_of_methods = |flag: &str| OF_METHODS.contains(&flag.trim_start_matches('-').replace('-', "_").as_str());
    let found: Vec<String> = given().into_iter().map(|given| given.flag).filter(|flag| is_of_methods(flag)).collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::Argument(format!(
            "{}: each method has its own here: leave out, or train that vector with `bipo train` and compare it with `bipo eval --at`",
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
        ("intervals", format!("95 %, bootstrap of {} resamples", args.bootstrap)),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn page_of(args: &CompareArgs, opened: &Session, settings: Vec<(String, String)>, comparison: &Comparison) -> Page {
    let names: Vec<&str> = comparison.candidates.iter().map(|candidate| candidate.name.as_str()).collect();
    Page {
        title: format!("{}: methods compared on {}", opened.files.name, args.run.dataset),
        summary: format!("{} at {}.", names.join(", "), args.at),
        command: page::command_line(),
        seed: Some(args.run.seed),
        settings,
        sections: comparison.sections(),
    }
}

/// The pairs of a data set as a vector at `positions` sees them, of the rows that are learned from.
fn encoded_at(
    opened: &mut Session,
    (dataset, max_length): (&[Pair], usize),
    pairs: &[EncodedPair],
    positions: Positions,
) -> Result<Vec<EncodedPair>> {
    if positions.ends().is_none() {
        return Ok(pairs.to_vec());
    }
    let rows: BTreeSet<usize> = pairs.iter().map(|pair| pair.row).collect();
    let length = max_length.min(opened.config.max_position_embeddings);
    opened.encoder.tell_places(None, positions.ends());
    let wanted = dataset.iter().filter(|pair| rows.contains(&pair.row));
    let encoded = wanted.map(|pair| Ok(opened.encoder.encode_pair(pair, length)?.0)).collect();
    opened.encoder.tell_places(None, None);
    encoded
}

/// The progress of the measurements.
struct Watch<'a> {
    log: Log,
    interrupt: &'a Interrupt,
    shown: Option<(&'static str, Progress)>,
}

impl Watch<'_> {
    fn finish(&self) {
        self.shown.iter().for_each(|(_, progress)| progress.finish());
    }
}

impl EvalObserver for Watch<'_> {
    fn progress(&mut self, part: &'static str, done: usize, total: usize) -> Result<()> {
        if self.shown.as_ref().is_none_or(|(name, _)| *name != part) {
            self.finish();
            self.shown = Some((part, self.log.progress(part, total)));
        }
        self.shown.iter_mut().for_each(|(_, progress)| progress.set(done, String::new));
        self.interrupt.check()
    }

    fn pass(&mut self) -> Result<()> {
        self.interrupt.check()
    }

    fn measured(&mut self, _: &Outcome) -> Result<()> {
        self.interrupt.check()
    }
}
