//! `bipo serve`: opens the model and the vectors, counts the memory for keys and values, and hands over to the server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bipo::generate::EngineLimits;
use bipo::machine::bytes::Bytes;
use bipo::machine::files::read_text;
use bipo::serve::{Hooks, NamedCondition, NamedVector, ServeOptions, Served, serve};
use bipo::session::Session;
use bipo::steering::vector::VectorFile;
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use super::room;
use super::session;
use super::training::settings;
use super::vectors::{check_vector, check_when, last_run, read_when, warn_of_unknown_keys};
use crate::args::{ServeArgs, vector_and_scale};
use crate::hints::with_hint;
use crate::terminal::{self, Log};

/// The name of a vector that the user gives none.
const UNNAMED: &str = "default";

/// Tokens of an answer at most, where a request does not say.
const ANSWER: usize = 1024;

pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    let api_key = args.api_key.clone().filter(|key| !key.is_empty());
    if !args.host.is_loopback() && api_key.is_none() && !args.insecure {
        let problem = format!(
            "listening on {} without a key would let everyone on the network use this machine: give --api-key, or --insecure",
            args.host
        );
        return Err(Error::Argument(problem).into());
    }
    let mut vectors = read_vectors(args, log)?;
    let conditions = read_conditions(&args.when)?;
    let opened = session::open(&args.model, ResponsePrefix::Auto, log)?;
    for named in &mut vectors {
        let known = &mut named.vector.metadata;
        if let Some(operation) = args.operation.filter(|operation| *operation != known.operation) {
            (known.operation, known.calibration) = (operation, None);
        }
        warn_of_unknown_keys(&named.vector, &named.name, log);
        check_vector(&named.vector, &opened, log)?;
        let note = named.vector.calibration_note(&opened.files.name);
        note.iter().for_each(|note| log.warn(with_hint(format!("{}: {note}", named.name))));
    }
    conditions.iter().try_for_each(|named| check_when(Some(&named.when), &opened, log))?;
    add_curves(&args.eval, &mut vectors)?;
    let (limits, context) = limits(args, &opened)?;
    let model = session::load_to_generate(&opened, &room::demand(limits), args.decoding.decoding(), log)?;
    let interrupt = Interrupt::listen_and_say(log, "ends when the texts under way are complete, after a minute at most")?;
    let options = ServeOptions {
        address: SocketAddr::new(args.host, args.port),
        model_name: model_name(&args.model.model, &opened).to_owned(),
        api_key,
        cors: args.cors.clone(),
        limits,
        queue: args.queue.into(),
        context,
        default_tokens: ANSWER,
        conditions,
    };
    let names: Vec<&str> = vectors.iter().map(|named| named.name.as_str()).collect();
    let names = if names.is_empty() { "no vector".to_owned() } else { format!("vectors {}", names.join(", ")) };
    let listens = |address: SocketAddr| {
        if args.model.json {
            // Whoever reads it may be gone; the server is there all the same.
            let _ =
                terminal::json(&json!({"schema_version": 1, "url": format!("http://{address}"), "model": options.model_name}));
        }
        log.info(format!(
            "{names}; {} texts at once, {} tokens of keys and values\nserving on http://{address}: open it in a browser, or ask \
             http://{address}/v1 with any OpenAI client; Ctrl-C ends",
            limits.streams, limits.tokens
        ));
    };
    let hooks = Hooks { stops: &|| interrupt.is_raised(), listens: &listens, log: &|line| log.warn(line) };
    let served = Served { model, bos: opened.tokens.bos, encoder: opened.encoder };
    Ok(serve(served, vectors, &options, &hooks)?)
}

/// Returns the model's name for clients: what the user wrote, but of a path its last part alone, for answers hold no path of
/// the machine.
fn model_name<'a>(model: &'a str, opened: &'a Session) -> &'a str {
    let name = if Path::new(model).exists() { &opened.files.name } else { model };
    name.strip_suffix(".gguf").unwrap_or(name)
}

/// The vectors that the user names, or the last run's where there is one.
fn read_vectors(args: &ServeArgs, log: Log) -> Result<Vec<NamedVector>> {
    let last_run = last_run();
    let named = |name: &str, path: &Path, scale: f32| -> Result<NamedVector> {
        let file = VectorFile::read(path)?;
        file.moved_note(args.layer).iter().for_each(|note| log.warn(with_hint(format!("{}: {note}", path.display()))));
        NamedVector::new(name.to_owned(), file, args.layer, scale)
    };
    if args.vector.is_empty() {
        return match last_run.exists() {
            true => Ok(vec![named(UNNAMED, &last_run, 1.0)?]),
            false => Ok(Vec::new()),
        };
    }
    let mut vectors: Vec<NamedVector> = Vec::new();
    for text in &args.vector {
        let is_file = vector_and_scale(text).is_ok_and(|(path, _)| path.exists());
        let split = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']) && !is_file);
        let (name, file) = split.unwrap_or((UNNAMED, text));
        if vectors.iter().any(|other| other.name == name) {
            let problem =
                format!("--vector {text}: another vector is called {name} too: give each a name of its own, NAME=FILE");
            return Err(Error::Argument(problem));
        }
        let (path, scale) = vector_and_scale(file)?;
        vectors.push(named(name, &path, scale)?);
    }
    Ok(vectors)
}

/// The conditions that requests can name, and the one that holds where they say nothing.
fn read_conditions(when: &[String]) -> Result<Vec<NamedCondition>> {
    let mut conditions: Vec<NamedCondition> = Vec::new();
    for text in when {
        let named = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']) && !Path::new(text).exists());
        let (name, file) = named.map_or((None, text.clone()), |(name, file)| (Some(name.to_owned()), file.to_owned()));
        if conditions.iter().any(|other| other.name == name) {
            let which = name.map_or("without a name".to_owned(), |name| format!("called {name}"));
            return Err(Error::Argument(format!(
                "--when {text}: another condition is {which} too: give each a name of its own"
            )));
        }
        let when = read_when(Some(&file))?;
        conditions.extend(when.map(|when| NamedCondition { name, when: Arc::new(when) }));
    }
    Ok(conditions)
}

/// Gives each result of an evaluation to its vector.
fn add_curves(files: &[String], vectors: &mut [NamedVector]) -> Result<()> {
    for text in files {
        let (name, file) = match text.split_once('=').filter(|_| !Path::new(text).exists()) {
            Some((name, file)) => (Some(name), file),
            None => (None, text.as_str()),
        };
        let path = Path::new(file);
        let curve = serde_json::from_str(&read_text(path)?);
        let curve =
            curve.map_err(|error| Error::malformed(path, format!("{error}: expected what `bipo eval --json` writes")))?;
        let named = vectors.iter_mut().find(|named| name.is_none_or(|name| name == named.name));
        let named = named.ok_or_else(|| {
            let problem = match name {
                Some(name) => format!("--eval {text}: no --vector is called {name}"),
                None => format!("--eval {text}: there is no vector that it was measured for: give --vector FILE"),
            };
            Error::Argument(problem)
        })?;
        named.curve = Some(without_folders(curve));
    }
    Ok(())
}

/// An evaluation that names its vectors by the names of their files alone, and says whether it ended early and not why, for answers hold no
/// path of the machine.
fn without_folders(mut curve: Value) -> Value {
    let name = |file: &mut Value| {
        let text = file.as_str().map(settings::without_folders);
        text.into_iter().for_each(|name| *file = name.into());
    };
    if let Some(ended_early) = curve.pointer_mut("/settings/ended_early") {
        *ended_early = json!(!ended_early.is_null());
    }
    match curve.pointer_mut("/settings/vector") {
        Some(Value::Array(files)) => files.iter_mut().for_each(name),
        Some(file) => name(file),
        None => {}
    }
    curve
}

/// How much is generated at once, within the memory for keys and values.
fn limits(args: &ServeArgs, opened: &Session) -> Result<(EngineLimits, usize)> {
    let wanted = room::context(args.context, opened)?;
    let streams = usize::from(args.slots);
    let memory = args.kv_memory.or_else(|| opened.placement.free_memory().map(|free| Bytes(free.0 / 4)));
    let most = memory.map_or(usize::MAX, |memory| opened.tokens_in(memory));
    if most < room::SHORTEST {
        let memory = memory.unwrap_or_default();
        return Err(Error::Argument(format!(
            "{memory} holds the keys and values of {most} tokens: give more with --kv-memory"
        )));
    }
    let tokens = wanted.saturating_mul(streams).min(most);
    Ok((EngineLimits { tokens, streams }, wanted.min(tokens)))
}
