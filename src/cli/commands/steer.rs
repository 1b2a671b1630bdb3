//! `bipo steer`: reads vectors and prompts, generates every magnitude of a prompt in one batch, shows them side by side.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use bipo::generate::{FinishReason, GenerateOptions, Generation, Prompt, generate};
use bipo::machine::files::{LARGEST_TEXT, check_writable, read_input, write_atomic};
use bipo::model::Model;
use bipo::report::{Answer, Block, Generations, Page, Section};
use bipo::session::fit::Run;
use bipo::steering::vector::{CombineOptions, Input, Positions, Spans, SteeringVector, VectorFile, combine};
use bipo::text::chat::Message;
use bipo::text::tokens::{ResponsePrefix, TextEncoder};
use bipo::{Error, Result};
use serde::Serialize;
use serde_json::json;

use super::page;
use super::session::Opened;
use super::train::VECTOR_FILE;
use crate::args::{SteerArgs, vector_and_scale};
use crate::terminal::{self, Log};

/// The least width of a column in characters; narrower terminals get one text below the other.
const NARROWEST_COLUMN: usize = 28;

pub fn run(args: &SteerArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    args.report.iter().chain(&args.output).try_for_each(|path| check_writable(path))?;
    let inputs = read_inputs(&args.vector, args.layer)?;
    let vector_settings = page::vector_settings(&inputs);
    let vector = settle(inputs, (args.positions, args.spans))?;
    let prompts = read_prompts(&args.prompt, args.prompts.as_deref())?;
    if prompts.is_empty() {
        let problem = "no prompt: give --prompt TEXT, or --prompts FILE (- for standard input)";
        return Err(Error::Argument(problem.into()).into());
    }
    let mut opened = Opened::new(&args.model, ResponsePrefix::Auto, log)?;
    opened.encoder.tell_spans(vector.metadata.spans);
    check_vector(&vector, &opened, log)?;
    let positions = vector.metadata.positions;
    let options = GenerateOptions {
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        repeat_penalty: args.repeat_penalty as f32,
        seed: args.seed,
        ..greedy(args.max_new_tokens, &opened, positions)
    };
    let longest = check_prompts(&opened, &prompts, positions)?;
    let magnitudes = args.magnitudes.as_slice();
    opened.on_device.run = Run::generation(&opened.config, magnitudes.len(), longest + args.max_new_tokens);
    let (model, _) = opened.load(&args.model, log)?;
    let streams = magnitudes.len() == 1 && !args.model.json && terminal::terminal_width().is_some();
    let (mut all, mut generations) = (Vec::new(), Vec::new());
    let mut shown = Ok(());
    let sweep = Sweep { model: &model, encoder: &opened.encoder, vectors: &vector.layers, magnitudes, options: &options };
    for prompt in &prompts {
        let texts = if streams { sweep.stream(prompt)? } else { sweep.generate(prompt, &mut |_, _| Ok(()))? };
        if !streams && !args.model.json && shown.is_ok() {
            shown = terminal::result(&texts.to_text());
        }
        // With a file to write, a reader that has gone is no reason to stop.
        if shown.is_err() && args.output.is_none() && args.report.is_none() {
            break;
        }
        generations.push(Block::Generations(texts.for_page()));
        all.extend(texts.results());
    }
    let results = json!({"schema_version": 1, "results": all});
    if let Some(path) = &args.output {
        write_atomic(path, format!("{results:#}\n").as_bytes())?;
    }
    let written = args.report.as_ref().map_or(Ok(()), |path| {
        let settings = [page::model_settings(&args.model, &opened), vector_settings, settings(args, &vector)].concat();
        report(args, &opened.files.name, settings, generations).write(path)
    });
    shown?;
    if args.model.json {
        terminal::json(&results)?;
    }
    // Last, so that a page that cannot be written takes no result with it.
    Ok(written?)
}

fn settings(args: &SteerArgs, vector: &SteeringVector) -> Vec<(String, String)> {
    let magnitudes: Vec<String> = args.magnitudes.as_slice().iter().map(f32::to_string).collect();
    let setting = |name: &str, value: String| Some((name.to_owned(), value));
    let sampling = match args.temperature {
        0.0 => "greedy".to_owned(),
        temperature => format!("temperature {temperature}"),
    };
    let all = [
        setting("positions", vector.metadata.positions.to_string()),
        vector.metadata.spans.and_then(|spans| setting("spans", spans.to_string())),
        setting("magnitudes", magnitudes.join(", ")),
        setting("decoding", sampling),
        args.top_p.and_then(|p| setting("top p", p.to_string())),
        args.top_k.and_then(|k| setting("top k", k.to_string())),
        (args.repeat_penalty != 1.0).then(|| ("repeat penalty".to_owned(), args.repeat_penalty.to_string())),
        setting("new tokens", format!("at most {}", args.max_new_tokens)),
    ];
    all.into_iter().flatten().collect()
}

fn report(args: &SteerArgs, model: &str, settings: Vec<(String, String)>, generations: Vec<Block>) -> Page {
    let (prompts, magnitudes) = (generations.len(), args.magnitudes.as_slice().len());
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    Page {
        title: format!("{model}, steered"),
        summary: format!("{} at {} of one steering vector.", plural(prompts, "prompt"), plural(magnitudes, "magnitude")),
        command: page::command_line(),
        seed: Some(args.seed),
        settings,
        sections: vec![Section::new("Generations", generations)],
    }
}

/// Greedy decoding of up to `max_new_tokens`.
pub fn greedy(max_new_tokens: usize, opened: &Opened, positions: Positions) -> GenerateOptions {
    GenerateOptions { eos: opened.tokens.eos.clone(), positions, ..GenerateOptions::greedy(max_new_tokens) }
}

/// Where a vector is added, as the user says.
type Places = (Option<Positions>, Option<Spans>);

/// The sum of the vectors, at the layer, positions and spans that are given, else at those of the files.
pub fn read_vector(vectors: &[String], layer: Option<usize>, places: Places) -> Result<SteeringVector> {
    settle(read_inputs(vectors, layer)?, places)
}

/// The sum of what was read, added where the user says, else where the files say.
pub fn settle(mut inputs: Vec<Input>, (positions, spans): Places) -> Result<SteeringVector> {
    for known in inputs.iter_mut().map(|input| &mut input.vector.metadata) {
        known.spans = spans.or(known.spans.filter(|_| positions.is_none()));
        known.positions = positions.unwrap_or(known.positions);
    }
    let vector = combine(inputs, &CombineOptions::default())?;
    vector.metadata.positions.check(vector.metadata.spans)?;
    Ok(vector)
}

/// Reads `FILE[:SCALE]` each, or the last run's vector where none is given. `layer` overrides the files'.
pub fn read_inputs(vectors: &[String], layer: Option<usize>) -> Result<Vec<Input>> {
    let named: Vec<(PathBuf, f32)> = vectors.iter().map(|text| vector_and_scale(text)).collect::<Result<_>>()?;
    let last_run = Path::new("bipo_output").join(VECTOR_FILE);
    if named.is_empty() && !last_run.exists() {
        let problem = format!("no vector at {}: run `bipo train` first, or give --vector FILE", last_run.display());
        return Err(Error::Argument(problem));
    }
    let named = if named.is_empty() { vec![(last_run, 1.0)] } else { named };
    let read = |(path, scale): (PathBuf, f32)| -> Result<Input> {
        let mut input = Input::new(VectorFile::read(&path)?, scale, |file| file.at(layer))?;
        if layer.is_some() {
            // The user says where it belongs in this model, whatever the depth of its own.
            input.vector.metadata.num_hidden_layers = None;
        }
        Ok(input)
    };
    named.into_iter().map(read).collect()
}

/// Refuses a vector that does not fit the model, and says where it was trained if that was elsewhere.
pub fn check_vector(vector: &SteeringVector, opened: &Opened, log: Log) -> Result<()> {
    vector.check_model(opened.config.hidden_size, opened.config.num_hidden_layers)?;
    if let Some(note) = vector.transfer_note(&opened.files.name) {
        log.info(format!("note: {note}"));
    }
    Ok(())
}

/// The prompts given one by one, or the lines of a file (`-` is standard input).
pub fn read_prompts(prompts: &[String], file: Option<&Path>) -> Result<Vec<String>> {
    let Some(path) = file else { return Ok(prompts.to_vec()) };
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes),
        _ => {
            bytes = read_input(path, LARGEST_TEXT)?;
            Ok(0)
        }
    };
    read.map_err(|source| Error::read(path, source))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::malformed(path, "not UTF-8 text: expected one prompt a line"))?;
    let prompts: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::malformed(path, "no prompt in it: expected one a line"));
    }
    Ok(prompts)
}

/// Refuses a prompt that fills the context, or that a vector cannot reach, before the weights are read. → the tokens of the
/// longest.
pub fn check_prompts(opened: &Opened, prompts: &[String], positions: Positions) -> Result<usize> {
    let context = opened.config.max_position_embeddings;
    let mut longest = 0;
    for prompt in prompts {
        let encoded = opened.encoder.encode_prompt(&[Message::new("user", prompt)])?;
        let tokens = encoded.ids.len();
        if tokens >= context {
            let problem = format!("the prompt has {tokens} tokens, but the model's context is {context}: shorten it");
            return Err(Error::Argument(problem));
        }
        if !Prompt::from(&encoded).is_steered(positions) {
            let problem = "no token of the prompt or after it would be steered: choose other --positions or --spans";
            return Err(Error::Argument(problem.into()));
        }
        longest = longest.max(tokens);
    }
    Ok(longest)
}

/// One entry of `--json`.
#[derive(Debug, Serialize)]
pub struct TextResult {
    prompt: String,
    magnitude: f32,
    text: String,
    token_ids: Vec<u32>,
    finish_reason: FinishReason,
}

/// What every prompt of a command is answered with.
pub struct Sweep<'a> {
    pub model: &'a Model,
    pub encoder: &'a TextEncoder,
    pub vectors: &'a BTreeMap<usize, Vec<f32>>,
    pub magnitudes: &'a [f32],
    pub options: &'a GenerateOptions,
}

impl Sweep<'_> {
    /// All magnitudes of a prompt; `on_token` gets the branch and each token as it comes.
    pub fn generate(&self, prompt: &str, on_token: &mut dyn FnMut(usize, u32) -> Result<()>) -> Result<Texts> {
        let encoded = self.encoder.encode_prompt(&[Message::new("user", prompt)])?;
        let generations = generate(self.model, &encoded, self.vectors, self.magnitudes, self.options, on_token)?;
        let decode = |generation: Generation| {
            let text = self.encoder.decode(&generation.token_ids, true)?;
            Ok((generation, text))
        };
        let generations = generations.into_iter().map(decode).collect::<Result<_>>()?;
        Ok(Texts { prompt: prompt.to_owned(), generations })
    }

    /// As [`Sweep::generate`] for one magnitude, each token shown as it comes.
    fn stream(&self, prompt: &str) -> anyhow::Result<Texts> {
        terminal::result(&format!("{}\n", console::style(prompt).bold()))?;
        let mut stream = self.encoder.stream(true);
        let texts = self.generate(prompt, &mut |_, token| match stream.push(token)? {
            Some(text) => terminal::result(&text).map_err(|source| Error::write("standard output", source)),
            None => Ok(()),
        })?;
        terminal::result("\n\n")?;
        Ok(texts)
    }
}

/// All magnitudes of one prompt.
pub struct Texts {
    prompt: String,
    generations: Vec<(Generation, String)>,
}

impl Texts {
    /// As a page shows them.
    pub fn for_page(&self) -> Generations {
        let answer = |(generation, text): &(Generation, String)| {
            let end = match generation.finish_reason {
                FinishReason::Stop => "",
                FinishReason::Length => ", cut",
                FinishReason::NotFinite => ", not finite",
            };
            let note = format!("{} tokens{end} · dose {:.2}", generation.token_ids.len(), generation.dose);
            Answer { magnitude: Some(generation.magnitude.into()), text: text.clone(), note }
        };
        Generations {
            prompt: self.prompt.clone(),
            subject: String::new(),
            answers: self.generations.iter().map(answer).collect(),
        }
    }

    fn results(self) -> impl Iterator<Item = TextResult> {
        let prompt = self.prompt;
        self.generations.into_iter().map(move |(generation, text)| TextResult {
            prompt: prompt.clone(),
            magnitude: generation.magnitude,
            text,
            token_ids: generation.token_ids,
            finish_reason: generation.finish_reason,
        })
    }

    /// In columns where the terminal has room, else one below the other.
    pub fn to_text(&self) -> String {
        let mut out = format!("{}\n\n", console::style(&self.prompt).bold());
        let count = self.generations.len().max(1);
        match terminal::terminal_width().map(|width| (width.saturating_sub(2 * (count - 1))) / count) {
            Some(column) if count > 1 && column >= NARROWEST_COLUMN => out + &self.columns(column),
            _ => {
                for (generation, text) in &self.generations {
                    out += &format!("{}\n{}\n\n", console::style(heading(generation)).cyan(), text.trim());
                }
                out
            }
        }
    }

    fn columns(&self, width: usize) -> String {
        let columns: Vec<Vec<String>> = self
            .generations
            .iter()
            .map(|(generation, text)| {
                let mut lines = wrap(&heading(generation), width);
                lines.push("─".repeat(width));
                lines.extend(text.trim().lines().flat_map(|line| wrap(line, width)));
                lines
            })
            .collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(0);
        let mut out = String::new();
        for row in 0..height {
            let cell = |column: &Vec<String>| {
                let text = column.get(row).map_or("", String::as_str);
                console::pad_str(text, width, console::Alignment::Left, None).into_owned()
            };
            let line: Vec<String> = columns.iter().map(cell).collect();
            out += line.join("  ").trim_end();
            out.push('\n');
        }
        out.push('\n');
        out
    }
}

fn heading(generation: &Generation) -> String {
    let tokens = generation.token_ids.len();
    format!("magnitude {:+}  dose {:.2}  {tokens} tokens", generation.magnitude, generation.dose)
}

/// Lines of at most `width` characters, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let len = console::measure_text_width(word);
        if used > 0 && used + 1 + len > width {
            lines.push(String::new());
            used = 0;
        }
        let Some(line) = lines.last_mut() else { break };
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += len;
    }
    lines.iter().flat_map(|line| split_long(line, width)).collect()
}

fn split_long(line: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(width).map(|part| part.iter().collect()).collect()
}
