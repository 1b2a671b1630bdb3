//! The vectors of a comparison: each method's in a file of its own, taken from there if the same run wrote it, else learned from
//! activations that methods at the same places share.

use std::path::PathBuf;
use std::time::Instant;

use bipo::data::Dataset;
use bipo::eval::{Budget, Candidate};
use bipo::machine::files::{check_folder, remove_abandoned, write_atomic};
use bipo::model::Model;
use bipo::session::Session;
use bipo::steering::dose::l2_norm;
use bipo::steering::vector::{Format, SteeringVector, VectorFile};
use bipo::text::tokens::{EncodedPair, fingerprint};
use bipo::train::activations::{Activations, CachePlan};
use bipo::train::caa::{CaaPositions, MeanDifference, mean_difference, principal_component};
use bipo::train::{Method, Observer, TrainConfig, Trainer};
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::encoded_at;
use crate::args::CompareArgs;
use crate::commands::interrupt::Interrupt;
use crate::commands::search::observer::SearchObserver;
use crate::commands::training::settings::{settings, vector};
use crate::terminal::Log;

/// The file of the times, beside the vectors.
const TIMES: &str = "times.json";

/// What is compared.
pub struct Plan {
    methods: Vec<Method>,
    /// Whether a random direction is.
    pub random: bool,
    /// What the model is told, if that is.
    pub system: Option<String>,
}

impl Plan {
    pub fn new(args: &CompareArgs) -> Result<Self> {
        let has = |name: &str| args.methods.iter().any(|method| method == name);
        let mut methods: Vec<Method> = Vec::new();
        for method in args.methods.iter().filter_map(|name| name.parse().ok()) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if methods.is_empty() {
            return Err(Error::Argument("--methods names none that gives a vector: add bipo or caa, for example".into()));
        }
        match args.at {
            Budget::Margin(_) => return Err(Error::Argument("--at is a budget of damage: give kl=… or ppl=…".into())),
            Budget::Perplexity(_) if methods.contains(&Method::ProSv) => {
                let problem =
                    "--at ppl=… reads a text whose every token is steered, which prosv never does: leave it out, or give kl=…";
                return Err(Error::Argument(problem.into()));
            }
            _ => {}
        }
        let system = args.baseline_system.clone().filter(|text| !text.trim().is_empty());
        match (has("prompt"), &system) {
            (true, None) => {
                Err(Error::Argument("the method prompt needs what the model is told: give --baseline-system TEXT".into()))
            }
            (false, Some(_)) => Err(Error::Argument("--baseline-system is for the method prompt: add it to --methods".into())),
            _ => Ok(Self { methods, random: has("random"), system }),
        }
    }

    /// The settings of the run that takes most memory.
    pub fn largest(&self, base: &TrainConfig) -> TrainConfig {
        let configs = self.methods.iter().map(|method| method.config(base));
        configs.max_by_key(TrainConfig::has_factors_apart).unwrap_or_else(|| base.clone())
    }
}

/// A vector, and what it took.
pub struct Made {
    pub name: String,
    pub vector: SteeringVector,
    steps: usize,
    seconds: f64,
    bytes: u64,
}

impl Made {
    /// A direction that took nothing.
    pub fn of_random(vector: SteeringVector) -> Self {
        Self { name: "random".into(), vector, steps: 0, seconds: 0.0, bytes: 0 }
    }

    pub fn candidate(&self) -> Candidate {
        Candidate {
            name: self.name.clone(),
            positions: Some(self.vector.metadata.positions.to_string()),
            norm: Some(self.vector.norm()),
            steps: self.steps,
            seconds: self.seconds,
            bytes: self.bytes,
        }
    }
}

/// The files of the vectors, and what their runs share.
pub struct Store<'a> {
    pub args: &'a CompareArgs,
    pub base: &'a TrainConfig,
    pub dataset: &'a Dataset,
    /// Those to learn from.
    pub pairs: &'a [EncodedPair],
    pub log: Log,
}

impl Store<'_> {
    /// The vectors that the directory has of earlier runs of the same comparison, by the methods of the plan; needs no model.
    pub fn open(&self, plan: &Plan, opened: &Session) -> Result<Vec<Option<Made>>> {
        let dir = &self.args.output_dir;
        std::fs::create_dir_all(dir).map_err(|source| Error::write(dir, source))?;
        check_folder(dir).map_err(|source| Error::write(dir, source))?;
        remove_abandoned(dir);
        plan.methods.iter().map(|method| self.kept(*method, opened)).collect()
    }

    /// Learns what is missing. → the vector of each method, in the order of the plan. A method that gives none is left out, and said.
    pub fn fill(
        &self,
        mut made: Vec<Option<Made>>,
        plan: &Plan,
        (model, opened): (&Model, &mut Session),
        interrupt: &Interrupt,
    ) -> Result<Vec<Made>> {
        let pairs = self.pairs;
        // Methods at the same places share their activations, of which one set is held at a time.
        while let Some(first) = made.iter().position(Option::is_none) {
            let places = |method: Method| (method.config(self.base).positions, method.config(self.base).sharing());
            let own = places(plan.methods[first]);
            let here: Vec<usize> =
                (0..made.len()).filter(|at| made[*at].is_none() && places(plan.methods[*at]) == own).collect();
            let total = here.iter().map(|at| self.steps(plan.methods[*at], pairs.len())).sum();
            let max_length = self.args.run.max_length;
            let encoded = encoded_at(opened, (&self.dataset.pairs, max_length), pairs, own.0)?;
            let config = plan.methods[first].config(self.base);
            let cache = CachePlan::new(model, &[&encoded], config.layers.lowest(), own, &config.cache)?;
            let mut watch = SearchObserver::new(self.log, cache.size().pairs, total, interrupt.clone());
            let mut cached = cache.compute(|done, total| watch.cached(done, total))?;
            let Some(data) = cached.pop() else { break };
            for at in here {
                made[at] = Some(self.learn(plan.methods[at], (model, opened), &data, &mut watch)?);
            }
            watch.finish();
        }
        Ok(made.into_iter().flatten().filter(|made| made.vector.norm() > 0.0).collect())
    }

    fn steps(&self, method: Method, pairs: usize) -> usize {
        if method.learns() { method.config(self.base).total_steps(pairs) } else { 0 }
    }

    fn path(&self, method: Method) -> PathBuf {
        self.args.output_dir.join(format!("{method}.safetensors"))
    }

    /// Seconds that the vectors in the directory took, by method. They are not in the vectors' files, which are the same each time.
    fn times(&self) -> Value {
        let text = std::fs::read_to_string(self.args.output_dir.join(TIMES)).unwrap_or_default();
        serde_json::from_str(&text).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
    }

    /// What the result of a method depends on.
    fn settings(&self, method: Method, opened: &Session) -> Value {
        let args = &self.args.run;
        let mut settings = settings(args, opened, &method.config(self.base), self.dataset, None);
        settings["method"] = json!(method);
        settings["weights"] = json!(format!("{:?}", args.model.weights).to_lowercase());
        // The template and the split are in the tokens.
        settings["pairs_as_tokens"] = json!(fingerprint(self.pairs));
        settings["bipo_version"] = json!(env!("CARGO_PKG_VERSION"));
        settings
    }

    /// The vector that an earlier run of the same comparison left.
    fn kept(&self, method: Method, opened: &Session) -> Result<Option<Made>> {
        let path = self.path(method);
        if self.args.overwrite || !path.exists() {
            return Ok(None);
        }
        let vector = VectorFile::read(&path)?.at(None)?;
        let training = vector.metadata.training.clone().unwrap_or_default();
        // As a file has them: numbers of a setting are rounded there as they are in the other.
        let wanted: Value = serde_json::from_str(&self.settings(method, opened).to_string()).unwrap_or_default();
        let is_same = wanted.as_object().is_some_and(|wanted| wanted.iter().all(|(key, value)| training[key] == *value));
        if !is_same {
            return Err(Error::Argument(format!(
                "{} is of another run: --overwrite learns it again, or choose another --output-dir",
                path.display()
            )));
        }
        self.log.info(format!("{method}: taken from {}", path.display()));
        let steps = training["steps"].as_u64().unwrap_or(0) as usize;
        let seconds = self.times()[method.to_string()].as_f64().unwrap_or(0.0);
        let bytes = path.metadata().map_or(0, |found| found.len());
        Ok(Some(Made { name: method.to_string(), vector, steps, seconds, bytes }))
    }

    fn learn(
        &self,
        method: Method,
        (model, opened): (&Model, &Session),
        data: &Activations,
        watch: &mut SearchObserver,
    ) -> Result<Made> {
        let started = Instant::now();
        let config = method.config(self.base);
        let none = || vec![0.0; model.config.hidden_size];
        let difference = |found: Result<MeanDifference>| match found {
            Ok(MeanDifference { v, left_out, .. }) => {
                if !left_out.is_empty() {
                    self.log.warn(format!("{method}: rows {left_out:?} left out: a response of theirs has one token"));
                }
                Ok((v, 0))
            }
            Err(Error::Argument(problem)) => {
                self.log.warn(format!("{method} is left out: {problem}"));
                Ok((none(), 0))
            }
            Err(error) => Err(error),
        };
        let (v, steps) = match method {
            Method::Caa => difference(mean_difference(data, CaaPositions::Response, model.device()))?,
            Method::Pca => difference(principal_component(data, CaaPositions::Response, model.device()))?,
            _ => {
                let outcome = Trainer::new(model, &config, data).run(None, watch)?;
                match outcome.stopped {
                    Some(Error::Interrupted) => {
                        self.log.info(format!(
                            "what is learned is kept in {}: the same command goes on",
                            self.args.output_dir.display()
                        ));
                        return Err(Error::Interrupted);
                    }
                    // Its vector is not finite, or of before: it would pass for the method's.
                    Some(error) => {
                        self.log.warn(format!("{method} is left out: {error}"));
                        (none(), outcome.steps)
                    }
                    None if l2_norm(&outcome.v) == 0.0 => {
                        self.log.warn(format!("{method} is left out: its vector is still zero after {} steps", outcome.steps));
                        (none(), outcome.steps)
                    }
                    None => (outcome.v, outcome.steps),
                }
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let results = json!({"steps": steps});
        let vector = vector(opened, &config, None, &v, &self.settings(method, opened), results);
        let path = self.path(method);
        let bytes = vector.encode(Format::Safetensors, &path)?.bytes;
        if vector.norm() > 0.0 {
            write_atomic(&path, &bytes)?;
            let mut times = self.times();
            times[method.to_string()] = json!(seconds);
            write_atomic(&self.args.output_dir.join(TIMES), times.to_string().as_bytes())?;
            self.log.info(format!("{method}: {steps} steps in {seconds:.1} s, |v| {:.3}: {}", vector.norm(), path.display()));
        }
        Ok(Made { name: method.to_string(), vector, steps, seconds, bytes: bytes.len() as u64 })
    }
}
