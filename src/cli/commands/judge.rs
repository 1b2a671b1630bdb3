//! `bipo judge`, and the judge of other commands: its arguments checked, its progress and its scores shown.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use bipo::data::endpoint::{ApiKey, Endpoint, EndpointNames, Patience};
use bipo::eval::judge::{self, JudgeConfig, JudgeReport, JudgedText, Rubric};
use bipo::machine::files::read_input;
use bipo::report::shell::quote;
use bipo::steering::Operation;
use bipo::steering::magnitudes::signed;
use bipo::train::collective::Collective;
use bipo::{Error, Result};
use serde::Deserialize;
use serde_json::json;

use super::interrupt::Interrupt;
use super::next::{self, TELLING};
use crate::args::{JudgeArgs, JudgeTextsArgs, given, given_of};
use crate::terminal::{self, Log};

/// The most that a file of texts to grade may take.
const LARGEST_SWEEP: u64 = 1 << 30;

pub fn run(args: &JudgeTextsArgs, collective: &Collective) -> anyhow::Result<()> {
    // Clap does not ask for a flag that conflicts with one that is there.
    if args.suppress {
        return Err(Error::Argument("--suppress is about a concept: give --concept TEXT, and no --rubric".into()).into());
    }
    let log = Log::new(args.report.verbose, args.report.quiet);
    let judge = Judge::new(&args.judge, log)?.ok_or_else(no_judge)?;
    let generations = read_generations(&args.texts)?;
    let interrupt = Interrupt::listen(log)?;
    let Some(report) = judge.grade(&generations, collective, &interrupt, log)? else {
        next::tell(false, "ask it", &ask(args), log);
        return Ok(());
    };
    match (collective.is_first(), args.report.json) {
        (false, _) => {}
        (true, true) => {
            let mut value = json!({"schema_version": 1});
            if let (Some(value), serde_json::Value::Object(report)) = (value.as_object_mut(), json!(report)) {
                value.extend(report);
            }
            terminal::json(&value)?;
        }
        (true, false) => terminal::result(&to_text(&report))?,
    }
    interrupt.check()?;
    let graded = report.magnitudes.iter().filter_map(|row| Some((row, row.mean?)));
    let best = graded.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(row, _)| row);
    best.iter().for_each(|best| talk(args, best.magnitude, best.operation, log));
    Ok(())
}

/// The command that asks what a dry run shows.
pub fn ask(args: &JudgeTextsArgs) -> String {
    let is_kept = |flag: &str| flag != "--judge-dry-run" && !TELLING.contains(&flag);
    let command = next::command(&format!("judge {}", quote(&args.texts.display().to_string())), &given(), is_kept);
    let missing = [("--judge", "URL", args.judge.judge.is_none()), ("--judge-model", "NAME", args.judge.judge_model.is_none())];
    let missing = missing.into_iter().filter(|(.., is_missing)| *is_missing);
    missing.fold(command, |command, (flag, value, _)| next::with(&command, flag, value))
}

/// Names the command that talks with the vector, whose file the texts do not name in full, at the magnitude that is best, unless that
/// is 0, which is the untouched model.
pub fn talk(args: &JudgeTextsArgs, magnitude: f32, operation: Operation, log: Log) {
    if magnitude == 0.0 {
        return;
    }
    let command = next::with("bipo chat --vector FILE", "--magnitude", &magnitude.to_string());
    let command = if operation.is_addition() { command } else { next::with(&command, "--operation", &operation.to_string()) };
    next::tell(args.report.json, "talk with the best", &command, log);
}

/// The error where texts are to be graded and no judge is named.
pub fn no_judge() -> Error {
    Error::Argument("no judge: give --judge URL, or --judge-dry-run to see what it would be asked".into())
}

/// A judge whose arguments are good. A command that generates makes it before it loads a model.
pub enum Judge {
    /// Shows what would be asked.
    DryRun { model: String, rubric: Rubric },
    /// Asks the judge of an endpoint.
    Asking(Box<JudgeConfig>),
}

impl Judge {
    /// Returns the judge that the arguments ask for; none where they ask for none.
    pub fn new(args: &JudgeArgs, log: Log) -> Result<Option<Self>> {
        Self::of(args, args.rubric.as_deref().map(Rubric::read).transpose()?, log)
    }

    /// Grades by this rubric, whatever the arguments say of one.
    pub fn grading_by(args: &JudgeArgs, rubric: Rubric, log: Log) -> Result<Option<Self>> {
        Self::of(args, Some(rubric), log)
    }

    fn of(args: &JudgeArgs, rubric: Option<Rubric>, log: Log) -> Result<Option<Self>> {
        let missing = |what: &str| Error::Argument(format!("the judge needs {what}"));
        let rubric = |flag: &str| rubric.clone().ok_or_else(|| missing(&format!("--rubric FILE or NAME beside {flag}")));
        if args.judge_dry_run {
            let model = args.judge_model.clone().unwrap_or_else(|| "MODEL".into());
            return Ok(Some(Self::DryRun { model, rubric: rubric("--judge-dry-run")? }));
        }
        let Some(url) = &args.judge else {
            let idle = given_of(&["judge_model", "rubric", "judge_results", "judge_concurrency", "judge_timeout"]);
            return match idle.first() {
                Some(flag) => Err(missing(&format!("--judge URL or --judge-dry-run beside {flag}"))),
                None => Ok(None),
            };
        };
        let (endpoint, key) = open(url, NAMES, log)?;
        Ok(Some(Self::Asking(Box::new(JudgeConfig {
            endpoint,
            key,
            model: args.judge_model.clone().ok_or_else(|| missing("--judge-model NAME beside --judge"))?,
            rubric: rubric("--judge")?,
            concurrency: usize::from(args.judge_concurrency),
            patience: Patience { timeout: Duration::from_secs_f64(args.judge_timeout), ..Patience::default() },
            results: args.judge_results.clone(),
        }))))
    }

    /// Grades, with progress on stderr, until the user interrupts; none for a dry run, which prints the questions.
    pub fn grade(
        &self,
        generations: &[JudgedText],
        collective: &Collective,
        interrupt: &Interrupt,
        log: Log,
    ) -> anyhow::Result<Option<JudgeReport>> {
        let config = match self {
            Self::DryRun { model, rubric } => {
                if collective.is_first() {
                    terminal::result(&questions(model, rubric, generations))?;
                }
                return Ok(None);
            }
            Self::Asking(config) => config,
        };
        let mut progress = None;
        let report = judge::judge(config, generations, collective, &mut |done, total| {
            progress.get_or_insert_with(|| log.progress("judging", total)).set(done, String::new);
            if interrupt.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        progress.iter().for_each(terminal::Progress::finish);
        if report.resumed > 0 {
            log.info(format!("{} of {} scores were there already", report.resumed, generations.len()));
        }
        if let Some(failure) = report.verdicts.iter().find_map(|verdict| verdict.failure.as_ref()) {
            let again = match config.results {
                Some(_) => "run the command again to ask for these alone",
                None => "give --judge-results FILE, which keeps the scores, and run the command again for the others",
            };
            let (failures, all) = (report.failures, generations.len());
            log.warn(format!("{failures} of {all} texts have no score, the first: {failure}; {again}"));
        }
        Ok(Some(report))
    }
}

/// How the user names the judge's endpoint and its key.
const NAMES: EndpointNames = EndpointNames { url: "--judge", key_variables: ["BIPO_JUDGE_KEY", "OPENAI_API_KEY"] };

/// An endpoint, and the key of the environment, with a warning where it is not sent there.
pub fn open(url: &str, names: EndpointNames, log: Log) -> Result<(Endpoint, Option<ApiKey>)> {
    let endpoint = Endpoint::parse(url, names)?;
    let key = ApiKey::from_env(names)?;
    if key.is_some() && !endpoint.takes_key() {
        let variables = names.key_variables.join(" or ");
        let flag = names.url;
        log.warn(format!(
            "{endpoint} is neither https nor this machine: the key of {variables} is not sent there; give {flag} an https address to \
             send it"
        ));
    }
    Ok((endpoint, key))
}

/// What would be asked, each question once.
fn questions(model: &str, rubric: &Rubric, generations: &[JudgedText]) -> String {
    let mut bodies: Vec<serde_json::Value> = Vec::new();
    for generation in generations {
        let body = judge::request(model, rubric, generation);
        if !bodies.contains(&body) {
            bodies.push(body);
        }
    }
    let mut text = format!("{} questions to {model}, nothing is asked\n", bodies.len());
    for (index, body) in bodies.iter().enumerate() {
        text += &format!("\n── question {} ──\n", index + 1);
        for message in body["messages"].as_array().into_iter().flatten() {
            let part = |key: &str| message[key].as_str().unwrap_or_default();
            text += &format!("[{}]\n{}\n", part("role"), part("content"));
        }
    }
    text
}

/// The scores of each magnitude as a table, in which an operation is named that is no addition.
pub fn to_text(report: &JudgeReport) -> String {
    let mut text =
        format!("judge {}, rubric {}\n\nmagnitude  score  95 % interval  scored  failed\n", report.judge_model, report.rubric);
    for row in &report.magnitudes {
        let mean = row.mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.2}"));
        let interval = row.interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.2} to {high:.2}"));
        let operation = if row.operation.is_addition() { String::new() } else { format!("  {}", row.operation) };
        let magnitude = signed(row.magnitude);
        text += &format!("{magnitude:>9}  {mean:>5}  {interval:>13}  {:>6}  {:>6}{operation}\n", row.scored, row.failed);
    }
    text
}

pub fn read_generations(path: &Path) -> Result<Vec<JudgedText>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Part {
        Text(JudgedText),
        Json {
            results: Vec<JudgedText>,
        },
        Header {
            #[serde(rename = "run")]
            _run: serde::de::IgnoredAny,
        },
        List(Vec<JudgedText>),
    }
    let bytes = read_input(path, LARGEST_SWEEP)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let expected = "expected texts as `bipo steer --output` or `--json` gives them: prompt, magnitude and text each";
    let mut results = Vec::new();
    let mut parts = serde_json::Deserializer::from_slice(bytes).into_iter();
    loop {
        let at = parts.byte_offset();
        let Some(part) = parts.next() else { break };
        let line = || 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        let wrong = |error: serde_json::Error| match error.is_eof() {
            true => Error::malformed(path, format!("it ends within line {}: take that line out", error.line())),
            false => Error::malformed(path, format!("in or behind line {}: {expected}", line())),
        };
        match part.map_err(wrong)? {
            Part::Text(text) => results.push(text),
            Part::Json { results: texts } | Part::List(texts) => results.extend(texts),
            Part::Header { .. } => {}
        }
    }
    match results.is_empty() {
        true => Err(Error::malformed(path, "no text in it")),
        false => Ok(results),
    }
}
