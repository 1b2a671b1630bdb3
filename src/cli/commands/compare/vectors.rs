//! The vectors of a comparison: each method's in a file of its own, taken from there if the same run wrote it, else learned from
//! activations that methods at the same places share.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use bipo::data::{Dataset, Pair};
use bipo::eval::{Candidate, Learned};
use bipo::machine::files::{check_folder, write_atomic};
use bipo::model::Model;
use bipo::session::Session;
use bipo::steering::dose::l2_norm;
use bipo::steering::positions::Positions;
use bipo::steering::vector::{Format, SteeringVector, VectorFile};
use bipo::text::tokens::EncodedPair;
use bipo::train::activations::{Activations, CachePlan};
use bipo::train::caa::{CaaPositions, MeanDifference, mean_difference, principal_component};
use bipo::train::collective::Json;
use bipo::train::{Method, Observer, TrainConfig, Trainer};
use bipo::{Error, Result};
use serde_json::{Value, json};

use crate::args::CompareArgs;
use crate::commands::interrupt::Interrupt;
use crate::commands::run::{ends_in_warmup, warmup_problem};
use crate::commands::search::observer::SearchObserver;
use crate::commands::training::settings::{identity, settings, vector};
use crate::terminal::Log;

/// The file of the times, beside the vectors.
const TIMES: &str = "times.json";

/// The methods that are compared, with a random direction and an instruction if they are wanted.
pub struct Plan {
    methods: Vec<Method>,
    /// Whether a random direction is compared.
    pub random: bool,
    /// Instruction that the model is told, if that is compared.
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
        methods.iter().try_for_each(|method| args.at.check_places(method.positions(), None))?;
        let system = args.baseline_system.clone().filter(|text| !text.trim().is_empty());
        match (has("prompt"), &system) {
            (true, None) => {
                Err(Error::Argument("the method prompt needs what the model is told: give --baseline-system TEXT".into()))
            }
            (false, Some(_)) => Err(Error::Argument("--baseline-system is for the method prompt: add it to --methods".into())),
            _ => Ok(Self { methods, random: has("random"), system }),
        }
    }
}

/// A vector, and what it took.
pub struct Made {
    pub name: String,
    pub vector: SteeringVector,
    learned: Option<Learned>,
}

impl Made {
    /// A random direction, which took no time to make.
    pub fn of_random(vector: SteeringVector) -> Self {
        Self { name: "random".into(), vector, learned: None }
    }

    pub fn candidate(&self) -> Candidate {
        Candidate {
            name: self.name.clone(),
            positions: Some(self.vector.metadata.positions.to_string()),
            norm: Some(self.vector.norm()),
            learned: self.learned,
        }
    }
}

/// A method's vector as ranks send it.
type ByLayer = BTreeMap<usize, Vec<f32>>;

/// What a plan came to.
pub struct Filled {
    /// The vectors that were made, in the order of the plan.
    pub made: Vec<Made>,
    /// Why a method gives no vector, a sentence each.
    pub left_out: Vec<String>,
}

/// The files of the vectors, and what their runs share.
pub struct Store<'a> {
    args: &'a CompareArgs,
    pub base: TrainConfig,
    dataset: &'a Dataset,
    /// Pairs that the vectors are learned from.
    pairs: &'a [EncodedPair],
    log: Log,
}

/// The file that keeps a method's vector.
pub fn file(args: &CompareArgs, method: &str) -> PathBuf {
    args.output_dir.join(format!("{method}.safetensors"))
}

impl<'a> Store<'a> {
    pub fn new(args: &'a CompareArgs, base: TrainConfig, dataset: &'a Dataset, pairs: &'a [EncodedPair], log: Log) -> Self {
        Self { args, base, dataset, pairs, log }
    }

    /// The settings of the run of the plan that takes most memory.
    pub fn largest(&self, plan: &Plan) -> TrainConfig {
        let configs = plan.methods.iter().map(|method| method.config(&self.base));
        configs.max_by_key(TrainConfig::has_factors_apart).unwrap_or_else(|| self.base.clone())
    }

    /// Says of which methods the runs end before their learning rate is reached.
    pub fn warn_of_warmup(&self, plan: &Plan, known: &[Option<Made>]) {
        let missing = plan.methods.iter().zip(known).filter(|(_, made)| made.is_none()).map(|(method, _)| *method);
        let ends = |method: &Method| method.learns() && ends_in_warmup(&self.config(*method), self.steps(*method));
        let short: Vec<Method> = missing.filter(ends).collect();
        if let Some(first) = short.first() {
            let names: Vec<String> = short.iter().map(Method::to_string).collect();
            self.log.warn(format!("{}: {}", names.join(", "), warmup_problem(&self.config(*first), self.steps(*first))));
        }
    }

    /// What the result depends on, beside the model's files.
    pub fn identity(&self, plan: &Plan, held: &[Pair], opened: &Session) -> Value {
        let methods: Vec<Value> = plan.methods.iter().map(|method| self.settings(*method, opened)).collect();
        json!({
            "methods": methods, "held_out_rows": held.iter().map(|pair| pair.row).collect::<Vec<_>>(), "system": plan.system,
            "random": plan.random, "at": self.args.at.to_string(), "max_new_tokens": self.args.max_new_tokens,
            "bootstrap": self.args.bootstrap,
        })
    }

    /// The vectors that the directory of the first rank has of earlier runs of the same comparison, by the methods of the plan; needs
    /// no model.
    pub fn open(&self, plan: &Plan, opened: &Session) -> Result<Vec<Option<Made>>> {
        let collective = &self.base.cache.collective;
        let own = if collective.is_first() { self.open_directory(plan, opened)? } else { Vec::new() };
        let by_layer = |made: &Option<Made>| made.as_ref().map(|made| made.vector.layers.clone());
        let Json(sent) = collective.from_first(Json(own.iter().map(by_layer).collect::<Vec<Option<ByLayer>>>()))?;
        if collective.is_first() {
            return Ok(own);
        }
        let made = |(method, layers): (&Method, Option<ByLayer>)| {
            let v = layers?.into_values().next()?;
            let vector = vector(opened, &self.config(*method), None, &v, &Value::Null, Value::Null);
            Some(Made { name: method.to_string(), vector, learned: None })
        };
        Ok(plan.methods.iter().zip(sent).map(made).collect())
    }

    fn open_directory(&self, plan: &Plan, opened: &Session) -> Result<Vec<Option<Made>>> {
        let dir = &self.args.output_dir;
        std::fs::create_dir_all(dir).map_err(|source| Error::write(dir, source))?;
        check_folder(dir).map_err(|source| Error::write(dir, source))?;
        plan.methods.iter().map(|method| self.kept(*method, opened)).collect()
    }

    /// Learns what is missing.
    pub fn fill(
        &self,
        mut made: Vec<Option<Made>>,
        plan: &Plan,
        (model, opened): (&Model, &mut Session),
        interrupt: &Interrupt,
    ) -> Result<Filled> {
        let mut left_out = Vec::new();
        let places = |at: usize| (self.config(plan.methods[at]).positions, self.config(plan.methods[at]).sharing());
        let mut missing: Vec<usize> = (0..made.len()).filter(|at| made[*at].is_none()).collect();
        // Methods at the same places share their activations, of which one set is held at a time.
        while let Some(own) = missing.first().map(|at| places(*at)) {
            let (here, others): (Vec<usize>, Vec<usize>) = missing.into_iter().partition(|at| places(*at) == own);
            missing = others;
            let total = here.iter().map(|at| self.steps(plan.methods[*at])).sum();
            let encoded = self.encoded_at(own.0, opened)?;
            let cache = CachePlan::new(model, &[&encoded], self.base.layers.lowest(), own, &self.base.cache)?;
            let mut watch = SearchObserver::new(self.log, cache.size().pairs, total, interrupt.clone());
            for data in cache.compute(|done, total| watch.cached(done, total))? {
                for at in &here {
                    match self.learn(plan.methods[*at], (model, opened), &data, &mut watch)? {
                        Ok(vector) => made[*at] = Some(vector),
                        Err(reason) => left_out.push(format!("{} is left out: {reason}", plan.methods[*at])),
                    }
                }
            }
            watch.finish();
        }
        Ok(Filled { made: made.into_iter().flatten().collect(), left_out })
    }

    /// The pairs to learn from as a vector at `positions` sees them.
    fn encoded_at(&self, positions: Positions, opened: &mut Session) -> Result<Cow<'a, [EncodedPair]>> {
        if positions.ends().is_none() {
            return Ok(Cow::Borrowed(self.pairs));
        }
        let length = self.args.run.encoding.max_length.min(opened.config.max_position_embeddings);
        opened.encoder.tell_places(None, positions.ends());
        let pairs = super::texts_of(self.dataset, self.pairs);
        let encoded = pairs.iter().map(|pair| Ok(opened.encoder.encode_pair(pair, length)?.0)).collect::<Result<_>>();
        opened.encoder.tell_places(None, None);
        encoded.map(Cow::Owned)
    }

    fn config(&self, method: Method) -> TrainConfig {
        method.config(&self.base)
    }

    fn steps(&self, method: Method) -> usize {
        if method.learns() { self.config(method).total_steps(self.pairs.len()) } else { 0 }
    }

    fn path(&self, method: Method) -> PathBuf {
        file(self.args, &method.to_string())
    }

    /// Seconds that the vectors in the directory took, by method. They are not in the vectors' files, which are the same each time.
    fn times(&self) -> Value {
        let text = std::fs::read_to_string(self.args.output_dir.join(TIMES)).unwrap_or_default();
        serde_json::from_str(&text).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
    }

    /// What the result of a method depends on.
    fn settings(&self, method: Method, opened: &Session) -> Value {
        let own = settings(&self.args.run, opened, &self.config(method), self.dataset, None);
        let mut identity = identity(&own, opened, self.pairs, None);
        identity["method"] = json!(method);
        identity
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
        let learned = Learned {
            steps: training["steps"].as_u64().unwrap_or(0) as usize,
            seconds: self.times()[method.to_string()].as_f64().unwrap_or(0.0),
            bytes: path.metadata().map_or(0, |found| found.len()),
        };
        Ok(Some(Made { name: method.to_string(), vector, learned: Some(learned) }))
    }

    /// Learns a vector and keeps it. → the vector, or why there is none
    fn learn(
        &self,
        method: Method,
        (model, opened): (&Model, &Session),
        data: &Activations,
        watch: &mut SearchObserver,
    ) -> Result<std::result::Result<Made, String>> {
        let started = Instant::now();
        let config = self.config(method);
        let found = match method {
            Method::Caa => self.difference(method, mean_difference(data, CaaPositions::Response, model.device())),
            Method::Pca => self.difference(method, principal_component(data, CaaPositions::Response, model.device())),
            _ => {
                let outcome = Trainer::new(model, &config, data).run(None, watch)?;
                outcome.stopped.map_or(Ok((outcome.v, outcome.steps)), Err)
            }
        };
        let (v, steps) = match found {
            Ok(found) => found,
            Err(Error::Interrupted) => {
                let dir = self.args.output_dir.display();
                self.log.info(format!("what is learned is kept in {dir}: the same command goes on"));
                return Err(Error::Interrupted);
            }
            // Its vector is not finite, or of before: it would pass for the method's.
            Err(error @ (Error::NotFinite(_) | Error::Argument(_))) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        if l2_norm(&v) == 0.0 {
            return Ok(Err(format!("its vector is still zero after {steps} steps (--warmup-steps, --epochs)")));
        }
        let seconds = started.elapsed().as_secs_f64();
        let vector = vector(opened, &config, None, &v, &self.settings(method, opened), json!({"steps": steps}));
        let path = self.path(method);
        let bytes = vector.encode(Format::Safetensors, &path)?.bytes;
        let learned = Some(Learned { steps, seconds, bytes: bytes.len() as u64 });
        if !self.base.cache.collective.is_first() {
            return Ok(Ok(Made { name: method.to_string(), vector, learned }));
        }
        write_atomic(&path, &bytes)?;
        let mut times = self.times();
        times[method.to_string()] = json!(seconds);
        write_atomic(&self.args.output_dir.join(TIMES), times.to_string().as_bytes())?;
        self.log.info(format!("{method}: {steps} steps in {seconds:.1} s, |v| {:.3}: {}", vector.norm(), path.display()));
        Ok(Ok(Made { name: method.to_string(), vector, learned }))
    }

    /// A vector that took no step.
    fn difference(&self, method: Method, found: Result<MeanDifference>) -> Result<(Vec<f32>, usize)> {
        let MeanDifference { v, left_out, .. } = found?;
        if !left_out.is_empty() {
            self.log.warn(format!(
                "{method}: rows {left_out:?} left out: a response of theirs has one token; write longer ones to use them"
            ));
        }
        Ok((v, 0))
    }
}
