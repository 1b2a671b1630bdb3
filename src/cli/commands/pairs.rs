//! `bipo pairs`: pairs from a description of the behaviour, asked of a chat endpoint; what it costs is shown first.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use bipo::data::Message;
use bipo::data::described::{Asked, Cost, OwnAnswer, PairsConfig, PairsPlan, PairsReport, Recipe};
use bipo::data::endpoint::{EndpointNames, Patience};
use bipo::generate::{FinishReason, GenerateOptions, Prompt, SweepEvent, generate_each};
use bipo::machine::files::check_writable;
use bipo::model::Model;
use bipo::session::{Demand, Session};
use bipo::steering::positions::Positions;
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use super::judge::open;
use super::prompts::{UserPrompt, check_questions};
use super::sweep::greedy;
use super::{next, session};
use crate::args::{OF_MODEL, OF_OWN_ANSWERS, PairsArgs, given_of};
use crate::terminal::{self, Log};

/// Number of tokens of a question and its template, for which memory is kept: a list of questions is not known before.
const QUESTION_TOKENS: usize = 256;

/// How the user names the endpoint and its key.
const NAMES: EndpointNames = EndpointNames { url: "--model-url", key_variables: ["BIPO_PAIRS_KEY", "OPENAI_API_KEY"] };

pub fn run(args: &PairsArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    let idle = if args.on_policy { Vec::new() } else { given_of(&[&OF_MODEL[..], &OF_OWN_ANSWERS].concat()) };
    if let Some(flag) = idle.first() {
        let problem = format!("{flag} is about the model that will be steered: give --on-policy to have its answers rejected");
        return Err(Error::Argument(problem).into());
    }
    let config = PairsConfig {
        recipe: Recipe {
            description: args.description.trim().to_owned(),
            opposite: args.opposite.as_ref().map(|text| text.trim().to_owned()),
            model: args.model_name.clone(),
            on_policy: args.on_policy.then(|| own_name(&args.model.model)),
        },
        pairs: args.n,
        max_tokens: args.max_new_tokens,
        temperature: args.model_temperature,
        seed: args.sampling.seed,
        output: args.output.clone().unwrap_or_default(),
    };
    args.output.as_deref().map_or(Ok(()), check_writable)?;
    let plan = PairsPlan::read(&config)?;
    let (Some(url), Some(output), false) = (&args.model_url, &args.output, args.dry_run) else {
        return Ok(show_plan(args, &plan)?);
    };
    let (endpoint, key) = open(url, NAMES, log)?;
    let patience = Patience { timeout: Duration::from_secs_f64(args.timeout), ..Patience::default() };
    let asked = Asked { endpoint, key, concurrency: usize::from(args.concurrency), patience };
    if plan.there() < args.n {
        let there = if plan.there() > 0 { format!("{} of {} pairs are there; ", plan.there(), args.n) } else { String::new() };
        log.info(format!("{there}{}", in_words(&plan.cost(), args.price)));
    }
    let own = args.on_policy.then(|| OwnModel::load(args, log)).transpose()?;
    let interrupt = Interrupt::listen(log)?;
    let mut progress = log.progress("pairs", args.n);
    let mut on_progress = |pairs: usize| {
        if pairs > 0 {
            progress.set(pairs.min(args.n), String::new);
        }
        if interrupt.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let report = match &own {
        None => plan.run(&asked, None, &mut on_progress)?,
        Some(own) => {
            let answers = &mut |questions: &[String], take: &mut dyn FnMut(OwnAnswer) -> Result<()>| {
                own.answer(questions, &interrupt, take)
            };
            plan.run(&asked, Some(answers), &mut on_progress)?
        }
    };
    progress.finish();
    show(args, &report, log)?;
    interrupt.check()?;
    match report.failure {
        Some(failure) => Err(failure.into()),
        None => {
            next::tell(args.model.json, "look at them", &next::of_file("data", &output.to_string_lossy()), log);
            Ok(())
        }
    }
}

/// The name of the model that will be steered, without the folders of this machine.
fn own_name(model: &str) -> String {
    let path = Path::new(model);
    let name = path.file_name().filter(|_| path.exists());
    name.map_or_else(|| model.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// What would be asked and what it takes, as text or JSON.
fn show_plan(args: &PairsArgs, plan: &PairsPlan) -> Result<()> {
    let cost = plan.cost();
    let written = if args.model.json {
        let price = args.price.map(|price| of_tokens(&cost, price));
        let example = |(request, messages): (&str, Vec<Message>)| json!({"request": request, "messages": messages});
        let examples: Vec<Value> = plan.examples().into_iter().map(example).collect();
        let there = plan.there();
        terminal::json(
            &json!({"schema_version": 1, "pairs": args.n, "there": there, "cost": cost, "price": price, "examples": examples}),
        )
    } else {
        let missing = args.n.saturating_sub(plan.there());
        let mut text = format!("{missing} pairs to make, nothing is asked: {}\n", in_words(&cost, args.price));
        for (heading, messages) in plan.examples() {
            text += &format!("\n── {heading} ──\n");
            for message in messages {
                text += &format!("[{}]\n{}\n", message.role, message.content);
            }
        }
        terminal::result(&text)
    };
    written.map_err(|source| Error::write("standard output", source))
}

fn in_words(cost: &Cost, price: Option<[f64; 2]>) -> String {
    let Cost { requests, prompt_tokens, completion_tokens } = cost;
    let price = price.map_or_else(String::new, |price| format!(", at a price of about {:.2}", of_tokens(cost, price)));
    format!(
        "about {requests} requests with {prompt_tokens} tokens read and {completion_tokens} written{price}, and more for what \
         is dropped"
    )
}

fn of_tokens(cost: &Cost, [read, written]: [f64; 2]) -> f64 {
    (cost.prompt_tokens as f64 * read + cost.completion_tokens as f64 * written) / 1e6
}

/// What was made and what was dropped, as text or JSON.
fn show(args: &PairsArgs, report: &PairsReport, log: Log) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct PairsDocument<'a> {
        schema_version: u32,
        output: Option<&'a str>,
        #[serde(flatten)]
        report: &'a PairsReport,
    }
    let dropped: usize = report.dropped.values().sum();
    let output = args.output.as_deref().map(|path| path.display().to_string());
    if args.model.json {
        terminal::json(&PairsDocument { schema_version: 1, output: output.as_deref(), report })?;
    } else if report.pairs + dropped > 0 {
        let mut text = format!("{} of {} pairs are in {}", report.pairs, args.n, output.unwrap_or_default());
        if report.resumed > 0 {
            text += &format!(", {} of them from before", report.resumed);
        }
        let tokens = match report.prompt_tokens {
            0 => String::new(),
            read => format!(", {read} tokens read and {} written", report.completion_tokens),
        };
        text += &format!("\n{} replies{tokens}\n", report.replies);
        for (reason, count) in &report.dropped {
            text += &format!("dropped {count:>6}  {reason}\n");
        }
        terminal::result(&text)?;
    }
    if dropped > report.pairs && dropped >= 10 {
        log.warn(format!(
            "more questions were dropped ({dropped}) than gave a pair ({}): the model that is asked may be too weak for this, so read \
             the pairs before you train on them",
            report.pairs
        ));
    }
    Ok(())
}

/// The model that will be steered.
struct OwnModel {
    opened: Session,
    model: Model,
    options: GenerateOptions,
    streams: usize,
}

impl OwnModel {
    fn load(args: &PairsArgs, log: Log) -> Result<Self> {
        let opened = session::open(&args.model, ResponsePrefix::Auto, log)?;
        let options = args.sampling.choosing(greedy(args.max_new_tokens, &opened, Positions::All));
        let demand = |streams| Demand::generation(streams, QUESTION_TOKENS, args.max_new_tokens);
        let streams = opened.most_streams(args.n, 1, demand);
        let (model, _) = session::load(&opened, &demand(streams), log)?;
        Ok(Self { opened, model, options, streams })
    }

    /// Answers the questions without a vector, in one running batch.
    fn answer(&self, questions: &[String], interrupt: &Interrupt, take: &mut dyn FnMut(OwnAnswer) -> Result<()>) -> Result<()> {
        let questions: Vec<UserPrompt> = questions.iter().map(|text| UserPrompt::new(text)).collect();
        let encoded = check_questions(&self.opened, &questions, self.options.positions)?;
        let prompts: Vec<Prompt> = encoded.iter().map(Prompt::from).collect();
        let (none, streams) = (BTreeMap::new(), self.streams);
        generate_each(&self.model, &prompts, &none, &[0.0], &self.options, streams, &mut |progress| match progress {
            SweepEvent::Token { .. } => interrupt.check(),
            SweepEvent::Answer { texts, .. } => texts.iter().try_for_each(|text| {
                if text.finish_reason == FinishReason::NotFinite {
                    return Err(Error::NotFinite(
                        "the logits of an answer are not finite: choose another model or dtype".into(),
                    ));
                }
                let is_cut = text.finish_reason != FinishReason::Stop;
                take(OwnAnswer { text: self.opened.encoder.text_of(&text.token_ids)?, is_cut })
            }),
        })
    }
}
