//! `bipo eval`: reads the vector, its baselines and what they are measured on, encodes all of it before a model is loaded, and
//! shows the report.

use std::path::Path;

use bipo::data::{Dataset, LoadOptions, QuestionSet, load_questions};
use bipo::eval::bootstrap::Bootstrap;
use bipo::eval::damage::NEUTRAL_TEXT;
use bipo::eval::judge::Generation;
use bipo::eval::{
    Encoded, GeneratedText, Material, Outcome, PairLine, Report, Settings, Subject, Treatment, baseline, demand, evaluate,
};
use bipo::machine::files::{check_writable, read_text, write_atomic};
use bipo::report::{Chart, Page};
use bipo::session::Session;
use bipo::steering::lens::NEUTRAL_PROMPTS;
use bipo::steering::vector::SteeringVector;
use bipo::text::tokens::added_bos;
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::judge::Judge;
use super::page;
use super::run::load_data;
use super::session;
use super::steer::{check_prompts, check_vector, greedy, read_inputs, read_prompts, read_vector, settle};
use super::train::{describe, without_folders};
use crate::args::{EvalArgs, SkipArg, response_prefix};
use crate::terminal::{self, Log, Progress};

/// β where neither the user nor the vector says it.
const DEFAULT_BETA: f64 = 0.1;

pub fn run(args: &EvalArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    check_outputs(args)?;
    let judge = Judge::new(&args.judge, log)?;
    if judge.is_some() && args.skip.contains(&SkipArg::Generation) {
        return Err(Error::Argument("--skip generation leaves a judge nothing to grade: leave one of them out".into()).into());
    }
    let vectors = read_inputs(&args.vector, args.layer)?;
    let vector_settings = page::vector_settings(&vectors);
    let vector = settle(vectors, (args.positions, args.spans))?;
    let baselines = baselines(args, &vector)?;
    let inputs = Inputs::read(args, log)?;
    let mut opened = session::open(&args.model, response_prefix(&args.response_prefix), log)?;
    check_vector(&vector, &opened, log)?;
    let material = inputs.material(args, &opened)?;
    let subjects = subjects(args, &vector, &baselines, &material, &mut opened, log)?;
    let settings = Settings {
        beta: beta(args, &vector),
        bootstrap: Bootstrap { resamples: args.bootstrap, seed: args.seed },
        generate: greedy(args.max_new_tokens, &opened, vector.metadata.positions),
    };
    let (model, _) = session::load(&opened, &demand(&subjects, args.max_new_tokens), log)?;
    let mut shown: Option<(&'static str, Progress)> = None;
    let outcome = evaluate(&model, &opened.encoder, &material, &subjects, &settings, &mut |part, done, total| {
        if shown.as_ref().is_none_or(|(name, _)| *name != part) {
            shown.iter().for_each(|(_, progress)| progress.finish());
            shown = Some((part, log.progress(part, total)));
        }
        shown.iter_mut().for_each(|(_, progress)| progress.set(done, String::new));
        Ok(())
    })?;
    shown.iter().for_each(|(_, progress)| progress.finish());
    if let Some(path) = &args.per_pair {
        write_atomic(path, &json_lines(&outcome.pairs)?)?;
    }
    say_times(&outcome, log);
    let Outcome { rows, generations, timings, .. } = outcome;
    let described = described(args, &opened, &inputs, &subjects, &settings);
    let mut report = Report { schema_version: 1, settings: described, rows, generations, timings };
    // What was measured is shown whatever becomes of the judge.
    let judged = judge.map_or(Ok(()), |judge| grade(&judge, &mut report, log));
    if let Some(path) = &args.csv {
        write_atomic(path, &report.to_csv()?)?;
    }
    args.plot.iter().try_for_each(|path| report.chart().write(path))?;
    let page = args.report.as_ref().map(|path| {
        let settings = [page::model_settings(&args.model, &opened), vector_settings, for_page(args, &inputs, &settings)];
        (page(args, &opened.files.name, settings.concat(), &report), path)
    });
    page.map_or(Ok(()), |(page, path)| page.write(path))?;
    match args.model.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text())?,
    }
    judged
}

/// Adds a judge's scores to the report.
fn grade(judge: &Judge, report: &mut Report, log: Log) -> anyhow::Result<()> {
    let generation = |text: &GeneratedText| Generation {
        prompt: text.prompt.clone(),
        magnitude: text.magnitude.unwrap_or_default(),
        text: text.text.clone(),
    };
    let generations: Vec<Generation> = report.generations.iter().map(generation).collect();
    if let Some(judged) = judge.grade(&generations, log)? {
        report.settings["judge"] = json!({"model": judged.judge_model, "rubric": judged.rubric});
        report.add_scores(&judged.verdicts);
    }
    Ok(())
}

fn page(args: &EvalArgs, model: &str, settings: Vec<(String, String)>, report: &Report) -> Page {
    let subjects = match args.baseline.as_slice() {
        [] => String::new(),
        baselines => format!(", beside {}", baselines.join(", ")),
    };
    Page {
        title: format!("{model}: what a steering vector does"),
        summary: format!("Measured at magnitudes {}{subjects}.", magnitudes(args)),
        command: page::command_line(),
        seed: Some(args.seed),
        settings,
        sections: report.sections(),
    }
}

fn magnitudes(args: &EvalArgs) -> String {
    args.magnitudes.as_slice().iter().map(|magnitude| magnitude.to_string().replace('-', "−")).collect::<Vec<_>>().join(", ")
}

/// What the numbers depend on beside model and vector, in words.
fn for_page(args: &EvalArgs, inputs: &Inputs, settings: &Settings) -> Vec<(String, String)> {
    let questions: Vec<String> =
        inputs.questions.iter().map(|set| format!("{} ({} prompts)", set.name, set.questions.len())).collect();
    let text = args.text.as_deref().map_or(Some("bundled".to_owned()), file_name);
    let all = [
        ("held-out pairs", inputs.dataset.as_ref().map(|set| format!("{}, {} pairs", set.name, set.pairs.len()))),
        ("beta", inputs.dataset.as_ref().map(|_| settings.beta.to_string())),
        ("questions", (!questions.is_empty()).then(|| questions.join(", "))),
        ("neutral text", text.filter(|_| !inputs.text.is_empty())),
        ("new tokens", (!inputs.prompts.is_empty()).then(|| format!("at most {}, greedy", args.max_new_tokens))),
        ("baseline's instruction", args.baseline_system.clone()),
        ("judge", args.judge.judge_model.clone().filter(|_| args.judge.judge.is_some())),
        ("rubric", args.judge.rubric.clone().and_then(|rubric| file_name(Path::new(&rubric)))),
        ("intervals", Some(format!("95 %, bootstrap of {} resamples", args.bootstrap))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Refuses what could not be written in the end.
fn check_outputs(args: &EvalArgs) -> Result<()> {
    [&args.csv, &args.per_pair, &args.report].into_iter().flatten().try_for_each(|path| check_writable(path))?;
    args.plot.iter().try_for_each(|path| Chart::check_path(path))?;
    if args.per_pair.is_some() && args.dataset.is_none() {
        return Err(Error::Argument("--per-pair needs pairs: give --dataset".into()));
    }
    Ok(())
}

/// An alternative to the vector, before it is encoded.
enum Baseline {
    Vector(Box<SteeringVector>),
    System(String),
}

fn baselines(args: &EvalArgs, vector: &SteeringVector) -> Result<Vec<(String, Baseline)>> {
    if args.baseline_system.is_some() && !args.baseline.iter().any(|name| name == "prompt") {
        return Err(Error::Argument("--baseline-system is for --baseline prompt: give both".into()));
    }
    let read = |name: &String| {
        let baseline = match name.as_str() {
            "random" => Baseline::Vector(Box::new(baseline::random(vector, args.seed))),
            "prompt" => {
                Baseline::System(args.baseline_system.clone().filter(|text| !text.trim().is_empty()).ok_or_else(|| {
                    Error::Argument("--baseline prompt needs what the model is told: give --baseline-system TEXT".into())
                })?)
            }
            file => {
                let other = read_vector(&[file.to_owned()], args.layer, (args.positions, args.spans));
                let other = other.map_err(|error| match error {
                    Error::Read { .. } => {
                        Error::Argument(format!("{error}; expected --baseline random, prompt or a vector file"))
                    }
                    error => error,
                })?;
                Baseline::Vector(Box::new(baseline::at_norm(other, vector.norm())?))
            }
        };
        Ok((name.clone(), baseline))
    };
    args.baseline.iter().map(read).collect()
}

/// Everything that is measured on, as it was read.
struct Inputs {
    dataset: Option<Dataset>,
    questions: Vec<QuestionSet>,
    text: String,
    prompts: Vec<String>,
}

impl Inputs {
    fn read(args: &EvalArgs, log: Log) -> Result<Self> {
        let options = LoadOptions { limit: args.limit, strict: args.strict, pairs: args.pairs, offline: args.model.offline };
        let dataset = args.dataset.as_ref().map(|name| load_data(name, &options, log)).transpose()?;
        if dataset.is_none() {
            log.info("note: no --dataset: preference is not measured");
        }
        let questions: Vec<QuestionSet> = args.mc.iter().map(|path| load_questions(path, args.limit)).collect::<Result<_>>()?;
        if let Some(twice) = (1..questions.len()).find(|i| questions[..*i].iter().any(|set| set.name == questions[*i].name)) {
            let name = &questions[twice].name;
            return Err(Error::Argument(format!("--mc: two files are called {name}: rename one, names are headings")));
        }
        let text = match &args.text {
            _ if args.skip.contains(&SkipArg::Text) => String::new(),
            None => NEUTRAL_TEXT.to_owned(),
            Some(path) => neutral_text(path)?,
        };
        let prompts = match (args.skip.contains(&SkipArg::Generation), &args.prompts) {
            (true, _) => Vec::new(),
            (false, None) if args.prompt.is_empty() => NEUTRAL_PROMPTS.map(String::from).to_vec(),
            (false, file) => read_prompts(&args.prompt, file.as_deref())?,
        };
        let inputs = Self { dataset, questions, text, prompts };
        match inputs.is_empty() {
            true => Err(Error::Argument("nothing to measure: give --dataset or --mc, or leave --skip out".into())),
            false => Ok(inputs),
        }
    }

    fn is_empty(&self) -> bool {
        self.dataset.is_none() && self.questions.is_empty() && self.text.is_empty() && self.prompts.is_empty()
    }

    fn material(&self, args: &EvalArgs, opened: &Session) -> Result<Material<'_>> {
        Ok(Material {
            pairs: self.dataset.as_ref().map_or(&[], |set| set.pairs.as_slice()),
            questions: &self.questions,
            text: &self.text,
            bos: added_bos(opened.encoder.tokenizer())?,
            prompts: &self.prompts,
            max_length: args.max_length.min(opened.config.max_position_embeddings),
            context: opened.config.max_position_embeddings,
        })
    }
}

fn neutral_text(path: &Path) -> Result<String> {
    let text = read_text(path)?;
    match text.trim().is_empty() {
        true => Err(Error::malformed(path, "the file is empty: expected plain text")),
        false => Ok(text.trim_end().to_owned()),
    }
}

/// The vector and its baselines, each with the material encoded for it.
fn subjects(
    args: &EvalArgs,
    vector: &SteeringVector,
    baselines: &[(String, Baseline)],
    material: &Material,
    opened: &mut Session,
    log: Log,
) -> Result<Vec<Subject>> {
    let magnitudes = args.magnitudes.as_slice().to_vec();
    // At magnitude 0 every vector is the same model.
    let nonzero: Vec<f32> = magnitudes.iter().copied().filter(|m| *m != 0.0).collect();
    let encoded = encode(material, vector, opened)?;
    if encoded.truncated > 0 {
        log.warn(format!("{} pairs truncated to {} tokens", encoded.truncated, material.max_length));
    }
    let mut subjects =
        vec![Subject { name: "vector".into(), treatment: Treatment::Vector(Box::new(vector.clone()), magnitudes), encoded }];
    for (name, baseline) in baselines {
        let (encoded, treatment) = match baseline {
            Baseline::Vector(other) => {
                let fits = check_vector(other, opened, log);
                fits.map_err(|error| Error::Argument(format!("--baseline {name}: {error}")))?;
                (encode(material, other, opened)?, Treatment::Vector(other.clone(), nonzero.clone()))
            }
            Baseline::System(text) => {
                opened.encoder.tell_spans(None);
                opened.encoder.set_system(Some(text.clone()));
                let encoded = material.encode(&opened.encoder)?;
                opened.encoder.set_system(args.model.system.clone());
                (encoded, Treatment::System(opened.encoder.encode_text(&format!("{text}\n\n"))?))
            }
        };
        subjects.push(Subject { name: name.clone(), treatment, encoded });
    }
    Ok(subjects)
}

fn encode(material: &Material, vector: &SteeringVector, opened: &mut Session) -> Result<Encoded> {
    opened.encoder.tell_spans(vector.metadata.spans);
    check_prompts(opened, material.prompts, vector.metadata.positions)?;
    material.encode(&opened.encoder)
}

/// What is given, else what the vector was trained with.
fn beta(args: &EvalArgs, vector: &SteeringVector) -> f64 {
    let trained = || vector.metadata.training.as_ref()?.get("beta")?.as_f64().filter(|beta| *beta > 0.0);
    args.beta.or_else(trained).unwrap_or(DEFAULT_BETA)
}

fn json_lines(lines: &[PairLine]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn say_times(outcome: &Outcome, log: Log) {
    let t = &outcome.timings;
    if let Some(pairs_per_s) = t.pairs_per_s {
        log.info(format!(
            "{} pairs through the upper blocks in {:.1} s: {pairs_per_s:.1} pairs/s; cached in {:.1} s",
            t.scored_pairs, t.score_s, t.cache_s
        ));
    }
    log.detail(format!("questions {:.1} s, text {:.1} s, generation {:.1} s", t.choice_s, t.text_s, t.generate_s));
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Every setting that the numbers depend on.
fn described(args: &EvalArgs, opened: &Session, inputs: &Inputs, subjects: &[Subject], settings: &Settings) -> Value {
    let subject = |subject: &Subject| match &subject.treatment {
        Treatment::Vector(vector, magnitudes) => json!({
            "name": subject.name, "norm": vector.norm(), "layers": vector.layers.keys().collect::<Vec<_>>(),
            "positions": vector.metadata.positions, "spans": vector.metadata.spans, "magnitudes": magnitudes,
        }),
        Treatment::System(_) => json!({"name": subject.name, "system": args.baseline_system}),
    };
    let questions = |set: &QuestionSet| json!({"name": set.name, "sha256": set.sha256, "prompts": set.questions.len()});
    let text = match (inputs.text.is_empty(), &args.text) {
        (true, _) => Value::Null,
        (false, None) => json!("bundled"),
        (false, Some(path)) => json!(file_name(path)),
    };
    json!({
        "model": opened.files.name,
        "vector": args.vector,
        "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
        "magnitudes": args.magnitudes.as_slice(),
        "dataset": inputs.dataset.as_ref().map(describe),
        "questions": inputs.questions.iter().map(questions).collect::<Vec<_>>(),
        "text": text,
        "prompts": inputs.prompts,
        "max_new_tokens": args.max_new_tokens,
        "limit": args.limit,
        "beta": settings.beta,
        "bootstrap": settings.bootstrap,
        "dtype": opened.placement.dtype_name(),
        "device": opened.placement.device_kind(),
        "system": args.model.system,
        "template": without_folders(&args.model.template),
        "response_prefix": args.response_prefix,
        "max_length": args.max_length,
    })
}
