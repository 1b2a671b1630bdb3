//! Opens and loads the model that the arguments name, says so on the terminal, and names the flags that help where memory is
//! short. The work is `bipo::session`'s.

use bipo::data::{Message, Pair};
use bipo::model::{Decoding, Model};
use bipo::session::fit::{Remedy, Shortage};
use bipo::session::{Demand, Session, SessionOptions, Surprise};
use bipo::steering::reach::Reach;
use bipo::text::spans::Spans;
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};
use serde_json::{Map, Value};

use crate::args::ModelArgs;
use crate::terminal::Log;

/// Finds and opens the model that the arguments name.
pub fn open(args: &ModelArgs, response_prefix: ResponsePrefix, log: Log) -> Result<Session> {
    let options = SessionOptions {
        model: args.model.clone(),
        device: args.device.clone(),
        split: args.split.clone(),
        dtype: args.dtype,
        weights: args.weights,
        system: args.chat.system.clone(),
        system_in_user: args.chat.system_in_user,
        template: args.chat.template.clone(),
        template_variables: args.chat.template_var.clone(),
        response_prefix,
        offline: args.offline,
        progress: log.downloads(),
    };
    open_with(options, log)
}

/// Finds and opens a model, and says what its chat template does that a user may not expect.
pub fn open_with(options: SessionOptions, log: Log) -> Result<Session> {
    let session = Session::open(options)?;
    if let Some(name) = session.fallback_template {
        let model = &session.files.name;
        log.warn(format!("{model} has no chat template of its own: using {name} (choose one with --template)"));
    }
    for surprise in &session.surprises {
        let name = session.encoder.template().name();
        match surprise {
            Surprise::DropsSystem => log.warn(dropped(name, "")),
            Surprise::EndsInThought => log.warn(format!(
                "chat template {name} ends the prompt inside a thought, so that responses stand in it (--template-var may close it)"
            )),
            // It matters where there are responses.
            Surprise::NoFormOfAnswer => {}
        }
    }
    Ok(session)
}

/// Says so where the chat template writes nothing of the encoder's system prompt. → whether that is so
///
/// # Errors
/// The template refuses a system prompt.
pub fn warn_of_dropped_system(session: &Session, log: Log) -> Result<bool> {
    let drops = session.encoder.drops_system(&[Message::new("user", "Hi")])?;
    if drops {
        log.warn(dropped(session.encoder.template().name(), ""));
    }
    Ok(drops)
}

fn dropped(template: &str, where_else: &str) -> String {
    format!(
        "chat template {template} writes nothing of the system prompt{where_else}: --system-in-user puts it into the first user turn"
    )
}

/// Says what the chat template does with pairs that a user may not expect: with their system prompts and their responses.
pub fn warn_of_pairs(session: &Session, pairs: &[Pair], log: Log) {
    let name = session.encoder.template().name();
    let with_system = pairs.iter().find(|pair| pair.prompt.first().is_some_and(Message::is_system));
    // A template that refuses the row says so when the row is encoded.
    if let Some(pair) = with_system.filter(|pair| session.encoder.drops_system(&pair.prompt).unwrap_or(false)) {
        log.warn(format!("row {}: {}", pair.row, dropped(name, ", here and in rows like it")));
    }
    if !pairs.is_empty() && session.surprises.contains(&Surprise::NoFormOfAnswer) {
        log.warn(format!(
            "chat template {name} gives no consistent form of an answer: a response gets a space in front, unless the prompt \
             ends in white space, and the tokenizer's end of sequence behind (--response-prefix says otherwise)"
        ));
    }
}

/// Refuses a set of pairs or questions on none of which a vector has an effect, before the weights are read.
pub fn check_reach(set: &str, reach: Reach, spans: Option<Spans>) -> Result<()> {
    if reach.reached > 0 || reach.all == 0 {
        return Ok(());
    }
    let remedy = match spans {
        None => "take --positions last+response",
        Some(_) => "choose other --positions or --spans",
    };
    Err(Error::Argument(format!("{set}: no token that predicts a response would be steered: {remedy}")))
}

/// Says that a vector cannot change which answer to some of a set's `cases`, pairs or questions, the model finds likelier.
pub fn warn_of_undecided(set: &str, cases: &str, Reach { all, undecided, .. }: Reach, log: Log) {
    if undecided > 0 {
        log.warn(format!(
            "{set}: in {undecided} of {all} {cases} the answers differ in one token alone and no token before it is steered, so that \
             the vector cannot change which of the tokens is likelier: take --positions last+response, and no --spans assistant"
        ));
    }
}

/// Adds how the chat template is used to the settings of a run, where that is not as usual.
pub fn add_template_settings(settings: &mut Value, args: &ModelArgs) {
    if args.chat.system_in_user {
        settings["system_in_user"] = true.into();
    }
    if !args.chat.template_var.is_empty() {
        settings["template_variables"] = args.chat.template_var.iter().cloned().collect::<Map<_, _>>().into();
    }
}

/// Reads the weights. Returns the model and the seconds that it took.
pub fn load(session: &Session, demand: &Demand, log: Log) -> Result<(Model, f64)> {
    session.check(demand).map_err(short)?.iter().for_each(|fit| log.info(fit.to_string()));
    let loaded = session.load(demand)?;
    log.info(loaded.to_string());
    if let Some(kernel) = session.placement.product_kernel() {
        log.detail(format!("{kernel} multiplies matrices of {}", session.placement.dtype_name()));
    }
    Ok((loaded.model, loaded.load_s))
}

/// Reads the weights, to generate text by `decoding`.
pub fn load_to_generate(session: &Session, demand: &Demand, decoding: Decoding, log: Log) -> Result<Model> {
    let (mut model, _) = load(session, demand, log)?;
    model.decoding = decoding;
    if let Some(kernel) = bipo::ops::integer_kernel().filter(|_| !model.decodes_exactly()) {
        log.detail(format!("{kernel} multiplies whole numbers where tokens are generated (--exact: none)"));
    }
    Ok(model)
}

/// The error of a demand that does not fit, with the flags that help.
pub fn short(shortage: Shortage) -> Error {
    let flags = |remedies: &[Remedy]| {
        let between = if remedies.iter().any(|remedy| matches!(remedy, Remedy::Branches(_))) { " and " } else { " " };
        remedies.iter().map(flag).collect::<Vec<_>>().join(between)
    };
    Error::Memory(shortage.message(flags))
}

fn flag(remedy: &Remedy) -> String {
    match remedy {
        Remedy::DType(dtype) => format!("--dtype {}", format!("{dtype:?}").to_lowercase()),
        Remedy::BatchSize(pairs) => format!("--batch-size {pairs}"),
        Remedy::CacheOnHost => "--cache host".to_owned(),
        Remedy::CacheInFile => "--cache-memory 0".to_owned(),
        Remedy::StoredWeights => "--weights quantized".to_owned(),
        Remedy::SmallerStep => "--max-length or --batch-size 1 makes a step smaller".to_owned(),
        Remedy::NewTokens(count) => format!("--max-new-tokens {count}"),
        Remedy::OtherDevice => "a smaller model or --device cpu".to_owned(),
        Remedy::Branches(_) | Remedy::SmallerModel => remedy.to_string(),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
