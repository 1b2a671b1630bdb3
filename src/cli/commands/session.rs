//! Opens and loads the model that the arguments name, says so on the terminal, and names the flags that help where memory is
//! short. The work is `bipo::session`'s.

use bipo::model::Model;
use bipo::session::fit::{Remedy, Shortage};
use bipo::session::{Demand, Session, SessionOptions};
use bipo::text::tokens::ResponsePrefix;
use bipo::{Error, Result};

use crate::args::ModelArgs;
use crate::terminal::Log;

/// Finds and opens the model that the arguments name.
pub fn open(args: &ModelArgs, response_prefix: ResponsePrefix, log: Log) -> Result<Session> {
    let session = Session::open(SessionOptions {
        model: args.model.clone(),
        device: args.device.clone(),
        dtype: args.dtype,
        weights: args.weights,
        system: args.system.clone(),
        template: args.template.clone(),
        response_prefix,
        offline: args.offline,
        quiet: args.quiet,
    })?;
    if let Some(name) = session.fallback_template {
        let model = &session.files.name;
        log.warn(format!("{model} has no chat template of its own: using {name} (choose one with --template)"));
    }
    Ok(session)
}

/// Reads the weights. Returns the model and the seconds that it took.
pub fn load(session: &Session, demand: &Demand, log: Log) -> Result<(Model, f64)> {
    if let Some(fit) = session.check(demand).map_err(short)? {
        log.info(fit.to_string());
    }
    let loaded = session.load(demand)?;
    log.info(loaded.to_string());
    Ok((loaded.model, loaded.load_s))
}

/// The error of a demand that does not fit, with the flags that help.
pub fn short(shortage: Shortage) -> Error {
    let flags = |remedies: &[Remedy]| remedies.iter().map(flag).collect::<Vec<_>>().join(" ");
    Error::Memory(shortage.message(flags))
}

fn flag(remedy: &Remedy) -> String {
    match remedy {
        Remedy::DType(dtype) => format!("--dtype {}", format!("{dtype:?}").to_lowercase()),
        Remedy::BatchSize(pairs) => format!("--batch-size {pairs}"),
        Remedy::CacheOnHost => "--cache host".to_owned(),
        Remedy::CacheInFile => "--cache-memory 0 puts the cache into a file".to_owned(),
        Remedy::StoredWeights => "--weights quantized leaves the weights in their file".to_owned(),
        Remedy::SmallerStep => "--max-length or --batch-size 1 makes a step smaller".to_owned(),
        Remedy::NewTokens(count) => format!("--max-new-tokens {count}"),
        Remedy::OtherDevice => "a smaller model or --device cpu".to_owned(),
        Remedy::Branches(_) | Remedy::SmallerModel => remedy.to_string(),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
