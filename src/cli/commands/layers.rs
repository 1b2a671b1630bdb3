//! `bipo layers`: short runs at each candidate from one pass over the data, a table of them by held-out loss, and the
//! command line that trains the winner.

use std::f64::consts::LN_2;

use bipo::report::shell::quote;
use bipo::report::{Chart, Point, curves};
use bipo::session::Demand;
use bipo::train::activations::CacheOptions;
use bipo::train::layer_search::{self, LayerResult, LayerSearch, hold_out, middle_layers};
use bipo::train::{EpochRecord, Observer, StepRecord};
use bipo::{Error, Result};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::run::{self, Prepared};
use crate::args::{Given, LayersArgs, given};
use crate::terminal::{self, Log, Progress};

/// What a run in full does not take over from the short ones, nor from this command.
const OWN: [&str; 9] =
    ["--layers", "--plot", "--epochs", "--max-steps", "--schedule-epochs", "--warmup-steps", "--json", "--verbose", "--quiet"];

pub fn run(args: &LayersArgs) -> anyhow::Result<()> {
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    args.plot.iter().try_for_each(|path| Chart::check_path(path))?;
    let Prepared { opened, dataset, heldout, pairs, heldout_pairs, .. } = Prepared::new(&args.run, log)?;
    let num_blocks = opened.config.num_hidden_layers;
    let layers = args.layers.as_ref().map_or_else(|| middle_layers(num_blocks), |list| list.of(num_blocks))?;
    let mut config = run::config(&args.run, &opened, layers, None, CacheOptions::default().spill_dir)?;
    let (pairs, heldout_pairs, name) = match (heldout, heldout_pairs) {
        (Some(heldout), Some(heldout_pairs)) => (pairs, heldout_pairs, heldout.name),
        _ => {
            let (pairs, held) = hold_out(pairs, config.seed)?;
            let name = format!("{} of {}'s own pairs, drawn with seed {}", held.len(), dataset.name, config.seed);
            log.info(format!("no --eval-dataset: held out {name}"));
            (pairs, held, name)
        }
    };
    let demand = Demand::training(&[&pairs, &heldout_pairs], config.layers.as_slice(), config.batch_size);
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
    let cache_bytes = plan.size().total().0;

    let mut reporter = Reporter::new(log, plan.size().pairs, steps * config.layers.as_slice().len())?;
    let search = LayerSearch::new(&model, plan, &config, |done, total| reporter.cached(done, total))?;
    let mut results: Vec<LayerResult> = Vec::new();
    let ended = search.run(&mut reporter, &mut |result| {
        log.detail(line_of(result));
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
    let report = Report {
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
    if winner_loss(&report).is_some_and(|loss| loss >= LN_2) {
        log.warn("no layer does better than no vector on the held-out pairs: take more --max-steps, or look at the data");
    }
    match args.run.model.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text())?,
    }
    args.plot.iter().try_for_each(|path| report.chart().write(path))?;
    let failure = || Error::NotFinite("every candidate failed".into());
    stopped.map_or(Ok(()), Err)?;
    report.best_layer.map(|_| ()).ok_or_else(|| failure().into())
}

fn winner_loss(report: &Report) -> Option<f64> {
    report.best_layer.and(report.layers.first()).and_then(|best| best.heldout).map(|heldout| heldout.loss)
}

/// `--json` as it is, text by way of `to_text`.
#[derive(Serialize)]
struct Report {
    schema_version: u32,
    model: String,
    dataset: String,
    pairs: usize,
    heldout: String,
    heldout_pairs: usize,
    seed: u64,
    cache_bytes: u64,
    best_layer: Option<usize>,
    /// Trains the winner in full.
    command: Option<String>,
    /// Best first.
    layers: Vec<LayerResult>,
    /// Why not every candidate was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_early: Option<String>,
}

impl Report {
    /// Held-out loss by layer; a run that failed has no point.
    fn chart(&self) -> Chart {
        let at = |result: &LayerResult| Some(Point::new(result.layer as f64, result.heldout.as_ref()?.loss));
        let mut losses: Vec<Point> = self.layers.iter().filter_map(at).collect();
        losses.sort_by(|a, b| a.x.total_cmp(&b.x));
        curves::layer_profile("held-out loss, lower is better", &losses, self.best_layer, (LN_2, "no vector"))
    }

    fn to_text(&self) -> String {
        let mut text = format!("held out: {}\n\n", self.heldout);
        text += "layer      loss  margin at +1  right  margin at -1  right     |v|  seconds\n";
        for result in &self.layers {
            text += &line_of(result);
            text.push('\n');
        }
        text += "no vector  0.6931\n";
        if let Some(reason) = &self.ended_early {
            text += &format!("ended early ({reason}): the other layers were not tried\n");
        }
        if let Some(command) = &self.command {
            text += &format!("\ntrain it in full: {command}\n");
        }
        text
    }
}

fn line_of(result: &LayerResult) -> String {
    let layer = result.layer;
    match (&result.failure, &result.heldout) {
        (None, Some(heldout)) => format!(
            "{layer:<9}  {:.4}  {:>+12.4}  {:>3.0} %  {:>+12.4}  {:>3.0} %  {:>6.2}  {:>7.1}",
            heldout.loss,
            heldout.positive_margin,
            100.0 * heldout.positive_right,
            heldout.negative_margin,
            100.0 * heldout.negative_right,
            result.vector_norm,
            result.seconds
        ),
        (failure, _) => format!("{layer:<9}  {}", failure.as_deref().unwrap_or("not measured")),
    }
}

/// What the user wrote, for `bipo train` at one layer.
fn train_command(given: &[Given], layer: usize) -> String {
    let mut words = vec!["bipo train".to_owned()];
    let taken = given.iter().filter(|given| !OWN.contains(&given.flag.as_str()));
    for Given { flag, values } in taken {
        match values.is_empty() {
            true => words.push(flag.clone()),
            // A value of its own word could pass for a flag where it begins with a minus sign.
            false => words.extend(values.iter().map(|value| match value.starts_with('-') {
                true => format!("{flag}={}", quote(value)),
                false => format!("{flag} {}", quote(value)),
            })),
        }
    }
    words.push(format!("--layer {layer}"));
    words.join(" ")
}

/// Shows the progress of all runs as one.
struct Reporter {
    caching: Progress,
    training: Option<Progress>,
    log: Log,
    steps: usize,
    total_steps: usize,
    interrupt: Interrupt,
}

impl Reporter {
    fn new(log: Log, pairs: usize, total_steps: usize) -> anyhow::Result<Self> {
        let caching = log.progress("caching", pairs);
        Ok(Self { caching, training: None, log, steps: 0, total_steps, interrupt: Interrupt::listen(log)? })
    }

    fn finish(&self) {
        self.training.iter().for_each(Progress::finish);
    }
}

impl Observer for Reporter {
    fn cached(&mut self, done: usize, total: usize) -> Result<()> {
        self.caching.set(done, String::new);
        if done == total {
            self.caching.finish();
        }
        self.interrupt.check()
    }

    fn step(&mut self, record: &StepRecord, _: usize) -> Result<()> {
        self.steps += 1;
        let (log, total) = (self.log, self.total_steps);
        let progress = self.training.get_or_insert_with(|| log.progress("training", total));
        progress.set(self.steps, || format!("loss {:.4}", record.loss));
        Ok(())
    }

    fn epoch(&mut self, _: &EpochRecord, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
