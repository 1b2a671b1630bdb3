//! `bipo train --method caa`: the mean difference of activations in place of a learned vector, with the same files.

use bipo::Result;
use bipo::machine::files::write_atomic;
use bipo::report::card;
use bipo::steering::dose::l2_norm;
use bipo::train::activations::{Activations, CachePlan};
use bipo::train::batch::Sharing;
use bipo::train::caa::{MeanDifference, mean_difference};
use bipo::train::collective::Collective;
use bipo::train::{Heldout, TrainConfig, Trainer};
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use super::ranks::check_same;
use super::run::{self, Prepared};
use super::training::outcome::{RunResult, margins, try_it};
use super::training::output_dir::OutputDir;
use super::training::run_files::{pretty, write_card};
use super::training::settings::{identity, named_layers, settings, vector};
use super::training::test_generation;
use super::vectors::VECTOR_FILE;
use crate::args::{TrainArgs, refuse_idle};
use crate::terminal::Log;

/// Flags that only a run of many steps has a use for.
pub(super) const STEPS: [&str; 4] = ["resume", "force_resume", "checkpoint_every", "offload"];

/// Flags of the optimiser, and the settings that they set.
pub(super) const OPTIMISER: [&str; 19] = [
    "epochs",
    "max_steps",
    "schedule_epochs",
    "batch_size",
    "lr",
    "objective",
    "gamma",
    "direction",
    "factors",
    "learn_factor",
    "factor_scale",
    "factor_lr",
    "init_scale",
    "max_grad_norm",
    "weight_decay",
    "warmup_steps",
    "scheduler",
    "seed",
    "init",
];

pub fn run(args: &TrainArgs, collective: &Collective) -> anyhow::Result<()> {
    refuse_optimiser(args)?;
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    let mut dir = collective.is_first().then(|| OutputDir::claim(args, log)).transpose()?;
    let at = args.caa_positions.unwrap_or_default();
    let Prepared { opened, dataset, heldout, pairs, heldout_pairs, tokenize_s } =
        collective.in_turn(|| Prepared::new(&args.run, log))?;
    let layers = named_layers(args, &opened)?;
    let mut config = run::config(&args.run, &opened, layers, None, args.output_dir.clone())?;
    run::share(&mut config, &args.run, collective);
    let settings = mean_settings(args, settings(&args.run, &opened, &config, &dataset, heldout.as_ref()));
    check_same(collective, &identity(&settings, &opened, &pairs, heldout_pairs.as_deref()), &opened, log)?;
    dir.iter_mut().try_for_each(OutputDir::make)?;
    let sets = run::sets(&pairs, heldout_pairs.as_deref());
    let demand = test_generation::demanded(run::demand_of_activations(&sets, &config), args, &opened)?;
    let (model, load_s) = run::load(&opened, &mut config, demand, log)?;
    let places = (config.positions, Sharing::All);
    let plan = CachePlan::at_each(&model, &sets, config.layers.clone(), places, &config.cache)?;
    log.info(format!("{}: {} pairs, mean difference at layer {}", dataset.name, pairs.len(), config.layers));
    run::tell_ranks(collective, log);
    log.info(plan.size().to_string());

    let started = std::time::Instant::now();
    let (interrupt, cache_bytes) = (Interrupt::listen(log)?, collective.total(plan.size().total().0)?);
    let mut progress = log.progress("caching", plan.size().pairs);
    let data = plan.compute_each(|done, _| {
        progress.set(done, String::new);
        interrupt.check()
    })?;
    progress.finish();
    let cache_s = started.elapsed().as_secs_f64();
    let of_layer = |sets: &Vec<Activations>| mean_difference(&sets[0], at, model.device());
    let differences: Vec<MeanDifference> = data.iter().map(of_layer).collect::<Result<_>>()?;
    let v: Vec<f32> = differences.iter().flat_map(|difference| &difference.v).copied().collect();
    let MeanDifference { pairs: used, left_out, .. } = &differences[0];
    if !left_out.is_empty() {
        log.warn(format!(
            "{}: rows {left_out:?} left out: a response of theirs has one token; write longer ones to use them",
            dataset.name
        ));
    }
    config.init = Some(v.clone());
    let measured = score(&model, &config, &data[0])?;
    // What the other ranks found is in what this one has.
    let Some(dir) = dir else { return Ok(()) };

    dir.clear()?;
    write_atomic(&args.output_dir.join("config.json"), &pretty(&settings))?;
    // No step, no line; one of an earlier run would pass for this vector's.
    write_atomic(&args.output_dir.join("metrics.jsonl"), b"")?;
    let path = args.output_dir.join(VECTOR_FILE);
    let results = json!({"compared_pairs": used, "heldout": measured});
    let vector = vector(&opened, &config, args.run.spans, &v, &settings, results);
    vector.write(&path)?;
    write_card(&args.output_dir, &vector, &[], None, log)?;

    let said = if args.run.model.json {
        RunResult::Json(json!({
            "schema_version": 1, "method": "caa", "vector": path.display().to_string(), "steps": 0, "final_loss": null, "final_margin": null,
            "vector_norm": l2_norm(&v), "compared_pairs": used, "heldout": measured, "skipped_rows": dataset.skipped.len(),
            "timings": {"load_s": load_s, "tokenize_s": tokenize_s, "cache_s": cache_s, "cache_bytes": cache_bytes},
        }))
    } else {
        let mut text = format!("{}\nmean difference of {used} pairs  |v| {:.3}", path.display(), l2_norm(&v));
        if let Some(measured) = &measured {
            text += &format!("\nheld out: {}", margins(measured, card::heldout_pairs(&settings)));
        }
        RunResult::Text(text + &try_it(&path))
    };
    test_generation::say(said, args, || Ok(test_generation::generate(&opened, &model, &vector, &interrupt)?))
}

/// The settings of a run that takes a mean and has no optimiser.
fn mean_settings(args: &TrainArgs, mut settings: Value) -> Value {
    if let Value::Object(settings) = &mut settings {
        settings.retain(|key, _| !OPTIMISER.contains(&key.as_str()));
    }
    settings["method"] = json!("caa");
    settings["caa_positions"] = json!(args.caa_positions.unwrap_or_default());
    settings
}

/// A flag that would change nothing is a misunderstanding.
fn refuse_optimiser(args: &TrainArgs) -> Result<()> {
    let beta: &[&str] = if args.run.eval_dataset.is_none() { &["beta"] } else { &[] };
    let why = "no effect with --method caa, which takes a mean, learns nothing and has nothing to resume";
    refuse_idle(&[&OPTIMISER[..], &STEPS, beta].concat(), why)
}

/// Margins of the vector on the held-out pairs, if there are any.
fn score(model: &bipo::model::Model, config: &TrainConfig, sets: &[Activations]) -> Result<Option<Heldout>> {
    match sets {
        [data, heldout] => Ok(Some(Trainer::new(model, config, data).evaluate(heldout)?)),
        _ => Ok(None),
    }
}
