//! Prompts that the user names: read, and found to fit the model before its weights are read.

use std::io::Read;
use std::path::Path;

use bipo::data::Message;
use bipo::generate::Prompt;
use bipo::machine::files::{LARGEST_TEXT, read_input, without_bom};
use bipo::steering::positions::Positions;
use bipo::text::tokens::EncodedPrompt;
use bipo::{Error, Result};

use crate::terminal::Log;
use bipo::session::Session;

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
    let prompts: Vec<String> = without_bom(&text).lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::malformed(path, "no prompt in it: expected one a line"));
    }
    Ok(prompts)
}

/// Encodes prompts, and refuses one that fills the context, or that a vector cannot reach, before the weights are read.
pub fn check_prompts(opened: &Session, prompts: &[String], positions: Positions) -> Result<Vec<EncodedPrompt>> {
    let context = opened.config.max_position_embeddings;
    let check = |prompt: &String| {
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
        Ok(encoded)
    };
    prompts.iter().map(check).collect()
}

/// Says what the model sees of each prompt: the rendered text with its special tokens, and the token ids.
pub fn show_prompts(opened: &Session, prompts: &[EncodedPrompt], log: Log) -> Result<()> {
    for EncodedPrompt { ids, .. } in prompts {
        let text = opened.encoder.decode(ids, false)?;
        let listed: Vec<String> = ids.iter().map(u32::to_string).collect();
        log.info(format!("prompt of {} tokens: {text:?}\n  ids {}", ids.len(), listed.join(" ")));
    }
    Ok(())
}
