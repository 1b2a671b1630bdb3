//! `bipo steer`: reads vectors and prompts, generates every magnitude of a prompt in one batch, shows them side by side.

use bipo::generate::GenerateOptions;
use bipo::machine::lines::LineFile;
use bipo::report::{Page, Section, SectionPart};
use bipo::steering::magnitudes::{UsualMagnitudes, signed};
use bipo::steering::vector::SteeringVector;
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};
use candle_core::DType;

use super::interrupt::Interrupt;
use super::next;
use super::outputs::check_outputs;
use super::page;
use super::prompts::{check_questions, read_questions, show_prompts};
use super::provenance::{self, Tracing};
use super::session;
use super::sweep::{PromptTexts, SweepSettings, TextResult, document, greedy, lines};
use super::vectors::{check_vector, check_when, read_inputs, read_when, settle, strength_note, warn_of_calibration};
use crate::args::SteerArgs;
use crate::downloads::fetch_options;
use crate::terminal::{self, Log, Progress};
use bipo::session::Demand;

pub fn run(args: &SteerArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    let prompts = args.asked.prompts.iter().map(|path| ("--prompts", path.as_path()));
    check_outputs(&[("--output", &args.output), ("--report", &args.report)], &args.steering, prompts)?;
    let inputs = read_inputs(&args.steering.source.vector, args.steering.source.layer, log)?;
    let (vector_settings, parts) = (page::vector_settings(&inputs), provenance::parts(&inputs));
    let subject = page::subject(&inputs);
    let vector = settle(inputs, args.steering.source.said())?;
    let magnitudes = args.steering.magnitudes_of(&vector.metadata, UsualMagnitudes::Texts)?;
    let magnitudes = magnitudes.as_slice();
    let when = read_when(args.steering.when.as_ref())?;
    let questions = read_questions(&args.asked, None, &fetch_options(args.model.offline))?;
    if questions.is_empty() {
        let problem = "no prompt: give --prompt TEXT, or --prompts FILE (- for standard input)";
        return Err(Error::Argument(problem.into()).into());
    }
    let mut opened = session::open(&args.model, ResponsePrefix::Auto, log)?;
    opened.encoder.tell_places(vector.metadata.spans, vector.metadata.positions.ends());
    check_vector(&vector, &opened, log)?;
    check_when(when.as_ref(), &opened, log)?;
    warn_of_calibration(args.steering.magnitudes.as_ref(), &vector, &opened, log);
    let positions = vector.metadata.positions;
    let options = GenerateOptions {
        operation: vector.metadata.operation,
        ..args.sampling.choosing(greedy(args.max_new_tokens, &opened, positions))
    };
    let encoded = check_questions(&opened, &questions, positions)?;
    let prompts: Vec<String> = questions.into_iter().map(|question| question.text).collect();
    if args.show_prompt {
        show_prompts(&opened, &encoded, log)?;
    }
    let longest = encoded.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
    let demand = |streams| Demand::generation(streams, longest, args.max_new_tokens);
    let streams = opened.most_streams(prompts.len() * magnitudes.len(), magnitudes.len(), demand);
    let named = args.steering.when.as_deref().zip(when.as_ref());
    let tracing = (args.model.json || args.output.is_some())
        .then(|| Tracing::begin(&args.model, &opened, parts, vector.metadata.spans, named, magnitudes, &options));
    let model = session::load_to_generate(&opened, &demand(streams), args.decoding.decoding(), log)?;
    let tracing = tracing.map(|tracing| tracing.exact(model.decodes_exactly()));
    // Several texts are generated at once, and shown as they end.
    let is_streamed = encoded.len() * magnitudes.len() == 1 && !args.model.json && terminal::terminal_width().is_some();
    let interrupt = Interrupt::listen(log)?;
    let (encoder, vectors) = (&opened.encoder, &vector.layers);
    let when = when.as_ref();
    let sweep =
        SweepSettings { model: &model, encoder, vectors, magnitudes, options: &options, when, streams, interrupt: &interrupt };
    let is_f32 = opened.placement.dtype == DType::F32;
    let is_shown = is_streamed || args.model.json;
    // Texts that go to a terminal as they come are progress enough.
    let has_progress = prompts.len() > 1 && (args.model.json || terminal::terminal_width().is_none());
    let mut done = Done {
        log,
        vector: Some(&vector),
        is_shown,
        is_f32,
        unshown: None,
        progress: has_progress.then(|| log.progress("prompts", prompts.len())),
        answered: 0,
        tracing,
        output: args.output.as_deref().map(LineFile::new),
        results: Vec::new(),
        answers: Vec::new(),
    };
    let ended = match is_streamed {
        true => prompts.iter().zip(&encoded).try_for_each(|(prompt, encoded)| done.take(args, sweep.stream(prompt, encoded)?)),
        false => sweep.each(&prompts, &encoded, &mut |texts| done.take(args, texts)),
    };
    done.progress.iter().for_each(Progress::finish);
    let written = args.report.as_ref().filter(|_| done.answered > 0).map_or(Ok(()), |path| {
        let settings =
            [page::model_settings(&args.model, &opened), vector_settings, settings(args, &vector, magnitudes)].concat();
        let title = format!("{subject} of {}", opened.files.name);
        report(args, title, settings, done.answers, magnitudes.len()).write(path)
    });
    if args.model.json && done.answered > 0 {
        terminal::json(&document(done.tracing.as_mut().map(|tracing| tracing.get()), &done.results))?;
    }
    ended?;
    if let Some(source) = done.unshown {
        written?;
        return Err(Error::write("standard output", source).into());
    }
    let (what, command) = next::after_steering(&args.steering.source, &vector);
    next::tell(args.model.json, what, &command, log);
    // Last, so that a page that cannot be written takes no result with it.
    Ok(written?)
}

/// The prompts that are answered.
struct Done<'a> {
    log: Log,
    /// What is added, until the user was told that it is much.
    vector: Option<&'a SteeringVector>,
    /// Whether another shows the texts: they are streamed, or all of them are one JSON value.
    is_shown: bool,
    is_f32: bool,
    /// Why the texts could not be shown, told when they are written.
    unshown: Option<std::io::Error>,
    progress: Option<Progress>,
    /// Number of prompts that are answered.
    answered: usize,
    /// What texts are generated from; none where no one asks.
    tracing: Option<Tracing>,
    output: Option<LineFile>,
    /// Results for `--json`.
    results: Vec<TextResult>,
    /// Answers for the page.
    answers: Vec<SectionPart>,
}

impl Done<'_> {
    /// Shows the answers to a prompt, and writes them with those before.
    fn take(&mut self, args: &SteerArgs, texts: PromptTexts) -> Result<()> {
        let shown = if self.is_shown { Ok(()) } else { terminal::result(&texts.to_text()) };
        texts.warn(self.is_f32, self.log);
        if let Some(note) = self.vector.and_then(|vector| strength_note(vector, &texts.doses())) {
            self.vector = None;
            self.log.warn(note);
        }
        self.answered += 1;
        self.answers.push(SectionPart::Generations(texts.for_page()));
        let results = texts.results();
        if let (Some(path), Some(output)) = (&args.output, &mut self.output) {
            let run = self.tracing.as_mut().filter(|_| !output.has_begun()).map(|tracing| tracing.get());
            output.add(&lines(run, &results).map_err(|error| Error::write(path, error.into()))?)?;
        }
        if args.model.json {
            self.results.extend(results);
        }
        self.progress.iter_mut().for_each(|progress| progress.set(self.answered, String::new));
        // With a file to write, a reader that has gone is no reason to stop.
        if args.output.is_some() || args.report.is_some() {
            match shown {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => self.unshown = Some(error),
                shown => self.is_shown |= shown.is_err(),
            }
            return Ok(());
        }
        shown.map_err(|source| Error::write("standard output", source))
    }
}

fn settings(args: &SteerArgs, vector: &SteeringVector, magnitudes: &[f32]) -> Vec<(String, String)> {
    let magnitudes: Vec<String> = magnitudes.iter().map(|magnitude| signed(*magnitude).replace('-', "−")).collect();
    let setting = |name: &str, value: String| Some((name.to_owned(), value));
    let sampling = match args.sampling.temperature {
        0.0 => "greedy".to_owned(),
        temperature => format!("temperature {temperature}"),
    };
    let all = [
        setting("positions", vector.metadata.positions.to_string()),
        vector.metadata.spans.and_then(|spans| setting("spans", spans.to_string())),
        Some(vector.metadata.operation).filter(|it| !it.is_addition()).and_then(|it| setting("operation", it.to_string())),
        args.steering.when.as_ref().and_then(|when| setting("steered when", when.clone())),
        setting("magnitudes", magnitudes.join(", ")),
        setting("decoding", sampling),
        args.sampling.top_p.and_then(|p| setting("top p", p.to_string())),
        args.sampling.top_k.and_then(|k| setting("top k", k.to_string())),
        (args.sampling.repeat_penalty != 1.0).then(|| ("repeat penalty".to_owned(), args.sampling.repeat_penalty.to_string())),
        setting("new tokens", format!("at most {}", args.max_new_tokens)),
    ];
    all.into_iter().flatten().collect()
}

fn report(
    args: &SteerArgs,
    title: String,
    settings: Vec<(String, String)>,
    generations: Vec<SectionPart>,
    magnitudes: usize,
) -> Page {
    let prompts = generations.len();
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    Page {
        title,
        summary: format!("{} at {}.", plural(prompts, "prompt"), plural(magnitudes, "magnitude")),
        command: page::command_line(),
        seed: Some(args.sampling.seed),
        settings,
        sections: vec![Section::new("Generations", generations)],
    }
}
