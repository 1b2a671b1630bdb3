//! `bipo calibrate`: finds the largest magnitudes of a vector within a budget, and keeps them in its file if that is wanted.

use bipo::data::Dataset;
use bipo::eval::damage::{NEUTRAL_TEXT, TextIds};
use bipo::eval::{Budget, Gauge, Limit, calibrate, found, neutral_ids};
use bipo::machine::files::write_atomic;
use bipo::model::Model;
use bipo::session::{Demand, Session};
use bipo::steering::lens::NEUTRAL_PROMPTS;
use bipo::steering::reach::Reach;
use bipo::steering::vector::{Calibration, Metadata, SteeringVector, VectorFile};
use bipo::text::tokens::{EncodedPair, EncodedPrompt, ResponsePrefix, added_bos, fingerprint};
use bipo::train::activations::{CacheOptions, CachePlan};
use bipo::train::batch::Sharing;
use bipo::train::collective::Collective;
use bipo::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::evaluation::inputs::neutral_text;
use super::evaluation::settings::vector_beta;
use super::interrupt::Interrupt;
use super::next;
use super::prompts::{UserPrompt, check_questions, read_questions};
use super::ranks::check_same;
use super::run::{self, load_data};
use super::session;
use super::sweep::greedy;
use super::training::TEST_PROMPT;
use super::vectors::{check_added, check_vector, file_to_save, read_inputs, settle};
use crate::args::{CalibrateArgs, given_of};
use crate::downloads::fetch_options;
use crate::terminal::{self, Log};

pub fn run(args: &CalibrateArgs, collective: &Collective) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    check_flags(args)?;
    let file = if args.save { Some(file_to_save(&args.vector)?) } else { None };
    let vector = settle(read_inputs(&args.vector.vector, args.vector.layer, log)?, args.vector.said())?;
    if vector.norm() == 0.0 {
        return Err(Error::Argument("the vector is zero: it has no strength at any magnitude".into()).into());
    }
    check_added("calibrate", &vector)?;
    let positions = vector.metadata.positions;
    args.budget.check_places(positions, vector.metadata.spans)?;
    let (measured, mut opened) =
        collective.in_turn(|| Ok((Probe::read(args, log)?, session::open(&args.model, ResponsePrefix::Auto, log)?)))?;
    opened.encoder.tell_places(vector.metadata.spans, vector.metadata.positions.ends());
    check_vector(&vector, &opened, log)?;
    let measured = measured.encode(args, &opened, &vector, log)?;
    let (demand, streams) = measured.demand(args, &opened, collective);
    check_same(collective, &measured.identity(args, &vector), &opened, log)?;
    let (model, _) = session::load(&opened, &demand, log)?;
    let interrupt = Interrupt::listen_and_say(log, "ends after this pass")?;
    let limits = measured.calibrate(args, (&model, &opened), &vector, streams, (collective, &interrupt))?;
    let [minus, plus] = found(&limits, args.budget);
    let calibration = Calibration { budget: args.budget.to_string(), minus, plus, model: opened.files.name.clone() };
    let is_found = minus.is_some() || plus.is_some();
    let saved = file.as_ref().filter(|_| is_found).map(|file| save(file, vector, calibration.clone()));
    let path = file.as_ref().map(|file| file.path.display().to_string()).filter(|_| matches!(saved, Some(Ok(()))));
    match (collective.is_first(), args.model.json) {
        (false, _) => {}
        (true, true) => terminal::json(&document(args, &calibration, &limits, path.as_deref()))?,
        (true, false) => terminal::result(&text(args, &calibration, &limits, path.as_deref()))?,
    }
    if path.is_some() && collective.is_first() {
        let command = next::with(&next::steering("steer"), "--magnitudes", "auto");
        next::tell(args.model.json, "try it", &format!("{command} --prompt \"{TEST_PROMPT}\""), log);
    }
    if let Some(file) = file.filter(|_| !is_found) {
        log.warn(format!(
            "nothing was found, so nothing is saved: {} is as it was; choose another --budget",
            file.path.display()
        ));
    }
    // Last, so that a file that cannot be written takes no result with it.
    Ok(saved.unwrap_or(Ok(()))?)
}

/// Writes the vector's file anew, with its calibration.
fn save(file: &VectorFile, vector: SteeringVector, calibration: Calibration) -> Result<()> {
    if VectorFile::read(&file.path)?.sha256 != file.sha256 {
        let problem = "it was written anew during the search: run the command again";
        return Err(Error::Argument(format!("{} does not keep what was found: {problem}", file.path.display())));
    }
    let metadata = Metadata { calibration: Some(calibration), ..vector.metadata.clone() };
    let bytes = SteeringVector { metadata, ..vector }.encode(file.format, &file.path)?.bytes;
    write_atomic(&file.path, &bytes)
}

/// Flags of what one budget is measured on.
const MATERIAL: [(&str, &[&str]); 3] = [
    ("kl", &["prompt", "prompts", "max_new_tokens"]),
    ("ppl", &["text"]),
    ("margin", &["dataset", "beta", "limit", "strict", "pairs", "rank", "columns"]),
];

/// Refuses flags that the budget has no use for.
fn check_flags(args: &CalibrateArgs) -> Result<()> {
    let budget = args.budget;
    for (other, flags) in MATERIAL.iter().filter(|(name, _)| *name != budget.name()) {
        if let Some(flag) = given_of(flags).first() {
            let problem = format!("{flag} is for --budget {other}=…, but the budget is {budget}: leave one of them out");
            return Err(Error::Argument(problem));
        }
    }
    match matches!(budget, Budget::Margin(_)) && args.dataset.is_none() {
        true => Err(Error::Argument(format!("--budget {budget} is measured on pairs: give --dataset"))),
        false => Ok(()),
    }
}

/// What is measured on, as it was read.
enum Probe {
    Prompts(Vec<UserPrompt>),
    Text(String),
    Pairs(Dataset),
}

impl Probe {
    fn read(args: &CalibrateArgs, log: Log) -> Result<Self> {
        Ok(match args.budget {
            Budget::Kl(_) if args.asked.prompt.is_empty() && args.asked.prompts.is_none() => {
                Self::Prompts(NEUTRAL_PROMPTS.map(UserPrompt::new).into())
            }
            Budget::Kl(_) => Self::Prompts(read_questions(&args.asked, None, &fetch_options(args.model.offline))?),
            Budget::Perplexity(_) => {
                Self::Text(args.text.as_deref().map_or_else(|| Ok(NEUTRAL_TEXT.to_owned()), neutral_text)?)
            }
            Budget::Margin(_) => {
                let name = args.dataset.as_deref().unwrap_or_default();
                Self::Pairs(load_data(name, &args.rows.options(fetch_options(args.model.offline)), log)?)
            }
        })
    }

    fn encode(self, args: &CalibrateArgs, opened: &Session, vector: &SteeringVector, log: Log) -> Result<EncodedProbe> {
        Ok(match self {
            Self::Prompts(prompts) => EncodedProbe::Prompts(check_questions(opened, &prompts, vector.metadata.positions)?),
            Self::Text(text) => {
                EncodedProbe::Text(neutral_ids(&opened.encoder, &text)?, added_bos(opened.encoder.tokenizer())?)
            }
            Self::Pairs(set) => {
                session::warn_of_pairs(opened, &set.pairs, log);
                let pairs = run::encode(opened, &set, opened.config.max_position_embeddings, log)?;
                let reach = Reach::of(vector.metadata.positions, &pairs);
                session::check_reach(&set.name, reach, vector.metadata.spans)?;
                session::warn_of_undecided(&set.name, "pairs", reach, log);
                EncodedProbe::Pairs(pairs, vector_beta(args.beta, vector))
            }
        })
    }
}

/// A probe's texts as token ids.
enum EncodedProbe {
    Prompts(Vec<EncodedPrompt>),
    Text(Vec<u32>, Option<u32>),
    /// Pairs, and the factor of their margin.
    Pairs(Vec<EncodedPair>, f64),
}

impl EncodedProbe {
    /// What the result depends on, beside the model.
    fn identity(&self, args: &CalibrateArgs, vector: &SteeringVector) -> Value {
        let measured_on = match self {
            Self::Prompts(prompts) => json!(prompts.iter().map(|prompt| &prompt.ids).collect::<Vec<_>>()),
            Self::Text(ids, bos) => json!([ids, bos]),
            Self::Pairs(pairs, beta) => json!([fingerprint(pairs), beta]),
        };
        json!({
            "material": measured_on, "budget": args.budget.to_string(), "max_new_tokens": args.max_new_tokens,
            "positions": vector.metadata.positions, "vector": vector.layers,
        })
    }

    /// What is taken of memory, and how many texts are generated at once.
    fn demand(&self, args: &CalibrateArgs, opened: &Session, collective: &Collective) -> (Demand, usize) {
        match self {
            Self::Prompts(prompts) => {
                let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
                let demand = |streams| Demand::generation(streams, longest, args.max_new_tokens);
                // Both directions are measured together.
                let streams = opened.most_streams(2 * prompts.len(), 2, demand);
                (demand(streams), streams)
            }
            Self::Text(..) => (Demand::default(), 0),
            Self::Pairs(pairs, _) => {
                let CacheOptions { place, memory, .. } = CacheOptions::shared(collective);
                (Demand::activations(&[&collective.share().of(pairs)], &[0]).cached(place, memory), 0)
            }
        }
    }

    fn calibrate(
        &self,
        args: &CalibrateArgs,
        (model, opened): (&Model, &Session),
        vector: &SteeringVector,
        streams: usize,
        (collective, interrupt): (&Collective, &Interrupt),
    ) -> Result<[Limit; 2]> {
        let positions = vector.metadata.positions;
        let search = |gauge| calibrate(model, &vector.layers, args.budget, gauge, collective, &mut || interrupt.check());
        match self {
            Self::Prompts(prompts) => {
                let options = greedy(args.max_new_tokens, opened, positions);
                search(Gauge::Answers { prompts, options: &options, streams })
            }
            Self::Text(ids, bos) => search(Gauge::Text(TextIds { ids, bos: *bos })),
            Self::Pairs(pairs, beta) => {
                let lowest = vector.layers.keys().next().copied().unwrap_or_default();
                let options = CacheOptions::shared(collective);
                let plan = CachePlan::new(model, &[pairs], lowest, (positions, Sharing::All), &options)?;
                // Each set that was handed over has its activations.
                let pairs = plan.compute(|_, _| interrupt.check())?.remove(0);
                search(Gauge::Pairs { pairs: &pairs, beta: *beta })
            }
        }
    }
}

/// What `--json` gives.
#[derive(Serialize)]
struct CalibrationDocument<'a> {
    schema_version: u32,
    model: &'a str,
    vector: &'a [String],
    budget: &'a str,
    minus: DirectionReport,
    plus: DirectionReport,
    /// The file that the calibration was saved in, if it was.
    saved: Option<&'a str>,
}

#[derive(Serialize)]
struct DirectionReport {
    magnitude: Option<f32>,
    /// What it costs, in the budget's unit.
    value: Option<f64>,
    evaluations: usize,
}

fn document<'a>(
    args: &'a CalibrateArgs,
    found: &'a Calibration,
    limits: &[Limit; 2],
    saved: Option<&'a str>,
) -> CalibrationDocument<'a> {
    let direction = |magnitude, limit: Limit| DirectionReport {
        magnitude,
        value: limit.found(args.budget).map(|point| args.budget.shown(point.cost)),
        evaluations: limit.evaluations,
    };
    let (minus, plus) = (direction(found.minus, limits[0]), direction(found.plus, limits[1]));
    let vector = &args.vector.vector;
    CalibrationDocument { schema_version: 1, model: &found.model, vector, budget: &found.budget, minus, plus, saved }
}

fn text(args: &CalibrateArgs, found: &Calibration, limits: &[Limit; 2], saved: Option<&str>) -> String {
    let budget = args.budget;
    let what = match budget {
        Budget::Kl(_) => "KL divergence, nats a generated token (95th percentile)",
        Budget::Perplexity(_) => "perplexity of the neutral text, as a multiple of that without the vector",
        Budget::Margin(_) => "mean margin of the pairs, nats, in the direction of the magnitude",
    };
    let mut text = format!("largest magnitudes within {budget}: {what}\n");
    for ((magnitude, limit), sign) in [found.minus, found.plus].into_iter().zip(limits).zip(["-", "+"]) {
        let point = limit.found(budget);
        text += &match (magnitude, point, limit.within) {
            (Some(magnitude), Some(point), _) => format!("  {magnitude:+}: {:.3}\n", budget.shown(point.cost)),
            (_, _, Some(within)) => format!("  none: at {sign}{} it is {:.3}\n", within.size as f32, budget.shown(within.cost)),
            _ => format!("  none: every {sign} magnitude that was tried exceeds it\n"),
        };
    }
    let magnitudes: Vec<String> = found.magnitudes().iter().map(f32::to_string).collect();
    text += &match saved {
        Some(path) => format!("saved in {path}: --magnitudes auto takes them from there\n"),
        None if magnitudes.len() > 1 => {
            let hint = if file_to_save(&args.vector).is_ok() { "(--save keeps them for --magnitudes auto)\n" } else { "" };
            format!(
                "try it: {} --magnitudes {} --prompt \"{TEST_PROMPT}\"\n{hint}",
                next::steering("steer"),
                magnitudes.join(",")
            )
        }
        None => String::new(),
    };
    text
}
