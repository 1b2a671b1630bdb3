//! `bipo train --method condition`: finds by which direction, layer and threshold a model tells prompts that need steering from
//! others, and writes it as a file for `--when`. Nothing is learned and no response is read.

use std::path::Path;

use bipo::data::{Message, PromptSet, Source, load_prompts};
use bipo::machine::files::check_writable;
use bipo::model::Model;
use bipo::report::shell::quote;
use bipo::session::{Demand, Session};
use bipo::steering::condition::{Condition, PromptReading, When, prompt_residuals};
use bipo::steering::layers::LayerList;
use bipo::steering::positions::Positions;
use bipo::steering::vector::{Metadata, SteeringVector};
use bipo::text::tokens::{EncodedPrompt, ResponsePrefix};
use bipo::train::collective::{Collective, Json};
use bipo::train::condition::{FoundCondition, Told, find};
use bipo::train::share::wilson;
use bipo::{Error, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::caa::{OPTIMISER, STEPS};
use super::interrupt::Interrupt;
use super::next;
use super::prompts::{UserPrompt, check_questions};
use super::ranks::check_same;
use super::session;
use super::training::settings::without_folders;
use super::vectors::last_run;
use crate::args::{TrainArgs, given_of, refuse_idle};
use crate::downloads::fetch_options;
use crate::terminal::{self, Log};

/// Name of the file that a run writes.
const CONDITION_FILE: &str = "condition.safetensors";

/// Flags of `train` that have no effect on a condition: there are no pairs, no responses, and nothing is steered.
const IDLE: [&str; 13] = [
    "beta",
    "cache",
    "cache_memory",
    "caa_positions",
    "columns",
    "max_length",
    "pairs",
    "positions",
    "rank",
    "response_prefix",
    "spans",
    "strict",
    "test_generation",
];

pub fn run(args: &TrainArgs, collective: &Collective) -> anyhow::Result<()> {
    let against = check_flags(args)?;
    let log = Log::new(args.run.model.verbose, args.run.model.quiet);
    let path = args.output_dir.join(CONDITION_FILE);
    if collective.is_first() && path.exists() && !args.overwrite {
        let problem = format!("{} exists: choose another --output-dir, or replace it with --overwrite", path.display());
        return Err(Error::Argument(problem).into());
    }
    let Read { need, rest, heldout, opened } = collective.in_turn(|| Read::new(args, against, log))?;
    let depth = opened.config.num_hidden_layers;
    let layers = args.layers.clone().or(args.layer.map(|layer| LayerList::These(layer.into())));
    let layers = layers.unwrap_or(LayerList::All).of(depth)?;
    let encode = |set| EncodedSet::new(set, &opened);
    let (need, rest) = (encode(need)?, encode(rest)?);
    let heldout = heldout.map(|(need, rest)| Ok::<_, Error>((encode(need)?, encode(rest)?))).transpose()?;
    let all: Vec<&EncodedSet> =
        [&need, &rest].into_iter().chain(heldout.iter().flat_map(|(need, rest)| [need, rest])).collect();
    let reading = args.reading.unwrap_or_default();
    check_same(collective, &identity(args, &opened, &all, layers.as_slice(), reading), &opened, log)?;
    if collective.is_first() {
        std::fs::create_dir_all(&args.output_dir).map_err(|source| Error::write(&args.output_dir, source))?;
        check_writable(&path)?;
    }
    let longest = all.iter().map(|set| set.longest()).max().unwrap_or(0);
    let (model, _) = session::load(&opened, &Demand::generation(1, longest, 1), log)?;
    let interrupt = Interrupt::listen(log)?;

    let mut progress = log.progress("reading prompts", need.prompts.len() + rest.prompts.len());
    let mut done = 0;
    let mut residuals = |set: &EncodedSet| -> Result<Vec<Vec<Vec<f64>>>> {
        let mut all = Vec::with_capacity(set.prompts.len());
        let bytes = size_of::<f64>() * layers.as_slice().len() * opened.config.hidden_size;
        let read = |at: usize| {
            interrupt.check()?;
            Ok(prompt_residuals(&model, &set.prompts[at].ids, layers.as_slice(), reading)?.concat())
        };
        let split = |residuals: &Vec<f64>| residuals.chunks(opened.config.hidden_size).map(<[f64]>::to_vec).collect();
        collective.each(set.prompts.len(), bytes, read, |_, residuals: Vec<f64>| {
            all.push(split(&residuals));
            done += 1;
            progress.set(done, String::new);
        })?;
        Ok(all)
    };
    let (of_need, of_rest) = (residuals(&need)?, residuals(&rest)?);
    progress.finish();
    let found = find(&of_need, &of_rest, layers.as_slice(), reading)?;
    let vector = vector(args, &opened, (&need, &rest), layers.as_slice(), &found);
    if collective.is_first() {
        vector.write(&path)?;
    }
    let when = When::new(vector, None)?;
    let told = |sets: &(EncodedSet, EncodedSet)| told(&when, &model, sets, (collective, &interrupt));
    let held = heldout.map(|sets| told(&sets).map(|told| (told_of(&sets), told))).transpose();
    // What was found is shown whatever becomes of the held-out prompts.
    let (held, ended) = held.map_or_else(|error| (None, Err(error)), |held| (held, Ok(())));
    let shown = match (collective.is_first(), args.run.model.json) {
        (false, _) => Ok(()),
        (true, true) => terminal::json(&json!({
            "schema_version": 1, "method": "condition", "condition": path.display().to_string(), "layer": found.layer,
            "reading": reading, "comparison": found.condition.comparison, "threshold": found.condition.threshold,
            "need": found.condition.need, "rest": found.condition.rest, "told": found.told,
            "heldout": held.map(|(_, told)| told),
        })),
        (true, false) => terminal::result(&text(&path, &found, held.as_ref(), &need)),
    };
    ended?;
    Ok(shown?)
}

/// Refuses flags without an effect, and a run without two sets. → that of `--against`
fn check_flags(args: &TrainArgs) -> Result<&String> {
    let optimiser: Vec<&str> = OPTIMISER.into_iter().chain(STEPS).chain(IDLE).collect();
    refuse_idle(&optimiser, "no effect with --method condition, which compares prompts and learns nothing")?;
    if given_of(&["dataset"]).is_empty() {
        return Err(Error::Argument("--method condition needs the prompts that are to be steered: give --dataset".into()));
    }
    if args.run.eval_dataset.is_some() && args.eval_against.is_none() {
        let problem = "--eval-dataset alone tells no precision: give --eval-against too, prompts that need no steering";
        return Err(Error::Argument(problem.into()));
    }
    let problem = "--method condition compares the prompts of --dataset with others, which need no steering: give --against";
    args.against.as_ref().ok_or_else(|| Error::Argument(problem.into()))
}

/// What a run is asked to compare, as it was read, and the model to read it with.
struct Read {
    need: PromptSet,
    rest: PromptSet,
    heldout: Option<(PromptSet, PromptSet)>,
    opened: Session,
}

impl Read {
    fn new(args: &TrainArgs, against: &str, log: Log) -> Result<Self> {
        let fetch = fetch_options(args.run.model.offline);
        let read = |name: &str, limit| load_prompts(&Source::parse(name)?, limit, &fetch);
        let limit = args.run.rows.limit;
        let (need, rest) = (read(&args.run.dataset, limit)?, read(against, limit)?);
        let named = args.run.eval_dataset.as_ref().zip(args.eval_against.as_ref());
        let heldout = named.map(|(need, rest)| Ok::<_, Error>((read(need, None)?, read(rest, None)?))).transpose()?;
        Ok(Self { need, rest, heldout, opened: session::open(&args.run.model, ResponsePrefix::Auto, log)? })
    }
}

/// Prompts as token ids, and as they were read.
struct EncodedSet {
    set: PromptSet,
    prompts: Vec<EncodedPrompt>,
}

impl EncodedSet {
    fn new(set: PromptSet, opened: &Session) -> Result<Self> {
        let question = |messages: &Vec<Message>| UserPrompt { text: String::new(), messages: messages.clone(), answer: None };
        let questions: Vec<UserPrompt> = set.prompts.iter().map(question).collect();
        let prompts = check_questions(opened, &questions, Positions::All);
        let prompts = prompts.map_err(|error| Error::Argument(format!("{}: {error}", set.name)))?;
        Ok(Self { set, prompts })
    }

    fn longest(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0)
    }

    /// SHA-256 of all that a run sees of the prompts.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for EncodedPrompt { ids, .. } in &self.prompts {
            hash.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        format!("{:x}", hash.finalize())
    }

    fn describe(&self) -> Value {
        json!({"name": self.set.name, "sha256": self.set.sha256, "prompts": self.prompts.len()})
    }
}

/// How well the condition tells two other sets apart.
fn told(
    when: &When,
    model: &Model,
    (need, rest): &(EncodedSet, EncodedSet),
    (collective, interrupt): (&Collective, &Interrupt),
) -> Result<Told> {
    let fired = |set: &EncodedSet| -> Result<Vec<bool>> {
        let mut fired = Vec::with_capacity(set.prompts.len());
        let ask = |at: usize| {
            interrupt.check()?;
            Ok(Json(when.ask(model, &set.prompts[at].ids)?.fired))
        };
        collective.each(set.prompts.len(), size_of::<bool>(), ask, |_, Json(has_fired)| fired.push(has_fired))?;
        Ok(fired)
    };
    Ok(Told::of(&fired(need)?, &fired(rest)?))
}

/// Everything that the bytes of the result depend on, beside the model's files.
fn identity(args: &TrainArgs, opened: &Session, sets: &[&EncodedSet], layers: &[usize], reading: PromptReading) -> Value {
    json!({
        "prompts": sets.iter().map(|set| set.fingerprint()).collect::<Vec<_>>(), "searched_layers": layers, "reading": reading,
        "limit": args.run.rows.limit, "dtype": opened.placement.dtype_name(), "device": opened.placement.device_kind(),
    })
}

fn vector(
    args: &TrainArgs,
    opened: &Session,
    (need, rest): (&EncodedSet, &EncodedSet),
    layers: &[usize],
    found: &FoundCondition,
) -> SteeringVector {
    let mut training = json!({
        "method": "condition",
        "dataset": need.describe(),
        "against": rest.describe(),
        "searched_layers": layers,
        "limit": args.run.rows.limit,
        "model": opened.files.name,
        "dtype": opened.placement.dtype_name(),
        "device": opened.placement.device_kind(),
        "system": args.run.model.chat.system,
        "template": without_folders(&args.run.model.chat.template),
    });
    session::add_template_settings(&mut training, &args.run.model);
    SteeringVector {
        layers: [(found.layer, found.c.clone())].into(),
        metadata: Metadata {
            base_model: Some(opened.files.name.clone()),
            model_type: Some(opened.config.model_type.clone()),
            num_hidden_layers: Some(opened.config.num_hidden_layers),
            training: Some(training),
            condition: Some(found.condition),
            ..Metadata::default()
        },
    }
}

fn told_of((need, rest): &(EncodedSet, EncodedSet)) -> String {
    format!(
        "{} prompts of {} that need steering, {} of {} that do not",
        need.prompts.len(),
        need.set.name,
        rest.prompts.len(),
        rest.set.name
    )
}

fn text(path: &Path, found: &FoundCondition, held: Option<&(String, Told)>, need: &EncodedSet) -> String {
    let Condition { reading, comparison, threshold, need: needs, rest, .. } = found.condition;
    let of = match reading {
        PromptReading::Mean => "the mean over a prompt's tokens",
        PromptReading::Last => "a prompt's last token",
    };
    let shares = |Told { precision, recall, f1, fired, need }: Told| {
        let (precision, recall) = (with_interval(precision, fired), with_interval(recall, need));
        format!("precision {precision}, recall {recall}, F1 {f1:.3}")
    };
    let mut text = format!(
        "{}\nsteers where the score of {of} after layer {} is {comparison} {threshold:.4}\n\
         on {needs} prompts that need steering and {rest} that do not: {}\n",
        path.display(),
        found.layer,
        shares(found.told)
    );
    if let Some((of, told)) = held {
        text += &format!("held out, {of}: {}\n", shares(*told));
    }
    let prompt = need.set.prompts[0].last().map_or("", |message| message.content.as_str());
    let (file, prompt) = (quote(&path.display().to_string()), quote(prompt.trim()));
    let command = format!("{} --when {file} --prompt {prompt}\n", next::of_model("steer"));
    // A condition steers nothing.
    let needs = if last_run().exists() { "try it: " } else { "Learn a vector with `bipo train`, then run: " };
    text + needs + &command
}

/// A share of `cases` prompts with its 95 % interval.
fn with_interval(share: f64, cases: usize) -> String {
    let interval = wilson(share, cases).map_or(String::new(), |[low, high]| format!(" [{low:.3}, {high:.3}]"));
    format!("{share:.3}{interval}")
}
