//! `bipo layers`: short runs at each candidate from one pass over the data, a table of them by held-out loss, and the
//! command line that trains the winner.

use std::f64::consts::LN_2;

use bipo::Error;
use bipo::report::Chart;
use bipo::train::Observer;
use bipo::train::activations::CacheOptions;
use bipo::train::collective::Collective;
use bipo::train::layer_search::{self, LayerResult, LayerSearch, middle_layers};

use super::interrupt::Interrupt;
use super::ranks::check_same;
use super::run::{self, Prepared};
use super::search::command::train_command;
use super::search::observer::SearchObserver;
use super::search::report::{LayerRanking, line_of};
use super::training::settings::{identity, settings};
use crate::args::{LayersArgs, given};
use crate::terminal::{self, Log};

pub fn run(args: &LayersArgs, collective: &Collective) -> anyhow::Result<()> {
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    args.plot.iter().try_for_each(|path| Chart::check_path(path))?;
    let Prepared { opened, dataset, heldout, pairs, heldout_pairs, .. } =
        collective.in_turn(|| Prepared::new(&args.run, log))?;
    let num_blocks = opened.config.num_hidden_layers;
    let layers = args.layers.as_ref().map_or_else(|| middle_layers(num_blocks), |list| list.of(num_blocks))?;
    let mut config = run::config(&args.run, &opened, layers, None, CacheOptions::default().spill_dir)?;
    let heldout = heldout.as_ref().zip(heldout_pairs);
    let (pairs, heldout_pairs, name) = run::hold_out(pairs, heldout, &dataset, config.seed, log)?;
    let identity = identity(&settings(&args.run, &opened, &config, &dataset, None), &opened, &pairs, Some(&heldout_pairs));
    run::share(&mut config, &args.run, collective);
    check_same(collective, &identity, &opened, log)?;
    let demand = run::demand(&[&pairs, &heldout_pairs], &config);
    let (model, _) = run::load(&opened, &mut config, demand, log)?;
    let plan = layer_search::plan(&model, &pairs, &heldout_pairs, &config)?;
    let steps = config.total_steps(pairs.len());
    log.info(format!(
        "{}: {} pairs, {} held out, {steps} steps of {} at each of layers {}",
        dataset.name,
        pairs.len(),
        heldout_pairs.len(),
        config.batch_size,
        config.layers
    ));
    log.info(plan.size().to_string());
    let cache_bytes = collective.total(plan.size().total().0)?;

    let mut reporter =
        SearchObserver::new(log, plan.size().pairs, steps * config.layers.as_slice().len(), Interrupt::listen(log)?);
    let search = LayerSearch::new(&model, plan, &config, |done, total| reporter.cached(done, total))?;
    let mut results: Vec<LayerResult> = Vec::new();
    let ended = search.run(&mut reporter, &mut |result| {
        log.detail(line_of(result, heldout_pairs.len()));
        results.push(result.clone());
    });
    reporter.finish();
    let stopped = match ended {
        Ok(_) => None,
        Err(error) if results.is_empty() => return Err(error.into()),
        // What the other candidates came to is worth as much.
        Err(error) => Some(error),
    };
    layer_search::rank(&mut results);
    let winner = results.first().filter(|best| best.failure.is_none());
    let report = LayerRanking {
        schema_version: 1,
        model: opened.files.name.clone(),
        dataset: dataset.name,
        pairs: pairs.len(),
        heldout: name,
        heldout_pairs: heldout_pairs.len(),
        seed: config.seed,
        cache_bytes,
        best_layer: winner.map(|best| best.layer),
        command: winner.map(|best| train_command(&given(), best.layer)),
        layers: results,
        ended_early: stopped.as_ref().map(ToString::to_string),
    };
    if report.winner_loss().is_some_and(|loss| loss >= LN_2) {
        log.warn("no layer does better than no vector on the held-out pairs: take more --max-steps, or look at the data");
    }
    match (collective.is_first(), args.run.model.json) {
        (false, _) => {}
        (true, true) => terminal::json(&report)?,
        (true, false) => terminal::result(&report.to_text())?,
    }
    args.plot.iter().try_for_each(|path| report.chart().write(path))?;
    stopped.map_or(Ok(()), Err)?;
    let failure = || report.layers.first().and_then(|result| result.failure.as_deref()).unwrap_or_default();
    let all_failed = || Error::NotFinite(format!("every candidate failed: {}", failure()));
    report.best_layer.map(|_| ()).ok_or_else(|| all_failed().into())
}
