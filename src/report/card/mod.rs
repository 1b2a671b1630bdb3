//! The model card: the README.md beside a vector, with the hub's metadata block, so that the directory can be uploaded
//! unchanged. It is made from the vector's own metadata, without time stamps or paths, so that the same vector gives the same
//! bytes.
//!
//! Begin with [`model_card`]; [`write()`] puts the card into a directory.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::data::PublishedPart;
use crate::hub::presets;
use crate::hub::repo_id::RepoId;
use crate::machine::files::write_atomic;
use crate::report::shell::quote;
use crate::steering::dose::l2_norm;
use crate::steering::positions::in_words;
use crate::steering::vector::{Positions, SteeringVector};
use crate::train::share::in_percent;
use crate::train::{EpochRecord, Factor, Heldout};

/// The forward hook that steers a model of `transformers` with a vector file. This is the only source of its text.
pub const HOOK: &str = include_str!("hook.py");

/// File name of the card in its directory.
pub const CARD_FILE: &str = "README.md";

const LIBRARY: &str = "library_name: bipo";

/// Keys of `training` that are outcomes rather than settings.
const OUTCOMES: [&str; 7] = ["steps", "final_loss", "final_margin", "best_epoch", "heldout", "epoch", "compared_pairs"];

/// Writes a card into `dir`, and returns whether it was written. An existing README.md that is not a card of bipo is not
/// replaced.
///
/// # Errors
/// The file cannot be written.
pub fn write(dir: &Path, card: &str) -> Result<bool> {
    let path = dir.join(CARD_FILE);
    let foreign = match std::fs::read(&path) {
        Ok(old) => !is_card(&String::from_utf8_lossy(&old)),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if !foreign {
        write_atomic(&path, card.as_bytes())?;
    }
    Ok(!foreign)
}

fn is_card(text: &str) -> bool {
    let block = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    block.is_some_and(|(block, _)| block.lines().any(|line| line == LIBRARY))
}

/// Returns the card of a vector. `file` is the name of the vector's file beside the card, and `curve` that of the picture of
/// the run, if there is one. `epochs` are the epochs of the run in order; those with held-out margins make a table.
pub fn model_card(vector: &SteeringVector, file: &str, epochs: &[EpochRecord], curve: Option<&str>) -> String {
    let training = vector.metadata.training.as_ref().unwrap_or(&Value::Null);
    let base = Base::of(vector);
    let mut out = metadata_block(&base, training);
    out += &introduction(vector, &base, training);
    out += &usage(vector, &base, file);
    out += &results(training, epochs, curve);
    out += &settings_table(training);
    out += &contents(vector, file, training);
    if let Some(source) = citation(training) {
        out += &format!("## Citation\n\n{source}\n");
    }
    out
}

/// Whether the vector was not learned, but is a mean difference of activations.
fn is_caa(training: &Value) -> bool {
    training.get("method").and_then(Value::as_str) == Some("caa")
}

/// Name of the base model, and its repository on the hub.
struct Base {
    name: Option<String>,
    repo: Option<String>,
}

impl Base {
    fn of(vector: &SteeringVector) -> Self {
        let name = vector.metadata.base_model.clone();
        let preset = name.as_deref().and_then(presets::find).map(|preset| preset.repo.to_owned());
        let repo = preset.or_else(|| name.clone().filter(|name| is_repo(name)));
        Self { name, repo }
    }

    /// Returns the model as an argument of a command or function.
    fn id(&self) -> &str {
        self.repo.as_deref().or(self.name.as_deref()).unwrap_or("MODEL")
    }

    fn link(&self) -> String {
        match (&self.repo, &self.name) {
            (Some(repo), _) => format!("[{}](https://huggingface.co/{repo})", markdown(repo)),
            (None, Some(name)) => markdown(name),
            (None, None) => "its model".to_owned(),
        }
    }
}

/// Whether a text is `owner/name` as the hub allows it. Such a text is a plain YAML string too.
fn is_repo(text: &str) -> bool {
    RepoId::parse(text).is_some_and(|id| id.revision.is_none())
}

fn metadata_block(base: &Base, training: &Value) -> String {
    let mut out = format!("---\n{LIBRARY}\n");
    if let Some(repo) = &base.repo {
        out += &format!("base_model: {}\n", yaml(repo));
    }
    if let Some(repo) = dataset_repo(training) {
        out += &format!("datasets:\n- {}\n", yaml(&repo));
    }
    let method = if is_caa(training) { "contrastive-activation-addition" } else { "preference-optimization" };
    out + &format!("tags:\n- bipo\n- steering-vector\n- activation-steering\n- {method}\n---\n\n")
}

/// Returns a YAML scalar. Text that is not surely plain is double-quoted as in JSON, which YAML reads too.
fn yaml(text: &str) -> String {
    if is_repo(text) { text.to_owned() } else { Value::from(text).to_string() }
}

/// Returns the hub repository of the training data, if there is one.
fn dataset_repo(training: &Value) -> Option<String> {
    let name = training.get("dataset")?.get("name")?.as_str()?;
    let published = PublishedPart::parse(name).ok().flatten().and_then(|part| part.set.hub_repo());
    let named = || name.strip_prefix("hf:")?.split(['@', ':']).next();
    published.or_else(named).filter(|repo| is_repo(repo)).map(str::to_owned)
}

fn introduction(vector: &SteeringVector, base: &Base, training: &Value) -> String {
    let data = training.get("dataset").and_then(|set| set.get("name")).and_then(Value::as_str);
    let short = base.id().rsplit('/').next().unwrap_or_default();
    let title = data.map_or(String::new(), |data| format!(": {}", markdown(data)));
    let (vectors, them) = match vector.layers.len() {
        1 => ("One steering vector".to_owned(), "It is added"),
        count => (format!("{count} steering vectors"), "Each is added"),
    };
    let behaviour = data.map_or("the target behaviour".to_owned(), |data| {
        format!("the behaviour that the chosen responses of {} show", markdown(data))
    });
    let blocks = match vector.layers.len() {
        1 => format!("the output of block {}", layer_list(vector)),
        _ => format!("the output of its block: {}", layer_list(vector)),
    };
    format!(
        "# Steering vector for {}{title}\n\n{vectors} of {} numbers for {}, whose weights stay as they are. {them}, times a \
         magnitude that you choose, to {blocks} (0-based), at {}. A positive magnitude amplifies {behaviour}, a negative one \
         suppresses it, 0 is the untouched model. {}\n\n",
        markdown(short),
        vector.hidden_size(),
        base.link(),
        in_words(vector.metadata.positions, vector.metadata.spans),
        method(training),
    )
}

/// What the run minimised, by name.
fn objective(training: &Value) -> &str {
    training.get("objective").and_then(Value::as_str).unwrap_or("bipo")
}

/// Says how the vector was made.
fn method(training: &Value) -> String {
    if !is_caa(training) {
        let method = match objective(training) {
            "dpo" => "direct preference optimisation ([DPO, arXiv 2305.18290](https://arxiv.org/abs/2305.18290))",
            "simpo" => {
                "simple preference optimisation, which has no reference ([SimPO, arXiv 2405.14734](https://arxiv.org/abs/2405.14734))"
            }
            "reps" => {
                "reference-free preference steering, which adds the vector and takes it out by turns ([RePS, arXiv \
                 2505.20809](https://arxiv.org/abs/2505.20809))"
            }
            "lm" => "language modelling on the chosen responses",
            _ => "bi-directional preference optimisation ([BiPO, arXiv 2406.00045](https://arxiv.org/abs/2406.00045))",
        };
        return format!("Learned by {method}.");
    }
    let place = match training.get("caa_positions").and_then(Value::as_str) {
        Some("last") => "at the last token of each before its end of turn",
        _ => "averaged over the tokens of each before its end of turn",
    };
    format!(
        "It was not learned: it is the mean difference of the model's activations there between chosen and rejected responses, \
         {place} (contrastive activation addition, [CAA, arXiv 2312.06681](https://arxiv.org/abs/2312.06681))."
    )
}

/// Lists the layers in words: `10, 13 and 16`.
fn layer_list(vector: &SteeringVector) -> String {
    let layers: Vec<String> = vector.layers.keys().map(usize::to_string).collect();
    match layers.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => layers.concat(),
    }
}

fn usage(vector: &SteeringVector, base: &Base, file: &str) -> String {
    let (model, file_py) = (Value::from(base.id()), Value::from(file));
    let (model_sh, file_sh) = (quote(base.id()), quote(file));
    let mut out = format!(
        "## Use\n\nWith `bipo`:\n\n```sh\nbipo steer --model {model_sh} --vector {file_sh} --magnitudes -2,0,2 \
         --prompt \"How was your day?\"\n```\n\nWith `transformers`:\n\n```python\n{HOOK}\n\n\
         from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained({model})\nmodel = AutoModelForCausalLM.from_pretrained({model})\n\
         steer(model, {file_py}, 2.0)\nchat = [{{\"role\": \"user\", \"content\": \"How was your day?\"}}]\n\
         prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors=\"pt\", return_dict=True)\n\
         print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64, do_sample=False)[0]))\n```\n\n"
    );
    let gguf = quote(&Path::new(file).with_extension("gguf").to_string_lossy());
    out += &match vector.layers.contains_key(&0) {
        true => "llama.cpp cannot add a vector to the output of block 0.\n\n".to_owned(),
        false => format!(
            "With llama.cpp, whose control vectors are GGUF files (older builds take `FILE SCALE` in place of `FILE:SCALE`):\n\n\
             ```sh\nbipo convert {file_sh} {gguf}\n\
             llama-cli -m MODEL.gguf --control-vector-scaled {gguf}:2 -p \"How was your day?\"\n```\n\n"
        ),
    };
    let (positions, spans) = (vector.metadata.positions, vector.metadata.spans);
    if positions != Positions::All || spans.is_some() {
        let only = in_words(positions, spans);
        out += &format!("The vector was made for {only}: the hook and llama.cpp add it at every token.\n\n");
    }
    out
}

fn results(training: &Value, epochs: &[EpochRecord], curve: Option<&str>) -> String {
    if is_caa(training) {
        return caa_results(training);
    }
    let outcome = outcome_line(training);
    let rows: Vec<(&EpochRecord, Heldout)> = epochs.iter().filter_map(|epoch| Some((epoch, epoch.heldout?))).collect();
    if outcome.is_empty() && rows.is_empty() {
        return String::new();
    }
    let curve = curve.map_or(String::new(), |file| format!("![Loss, margin and norm of the vector at each step]({file})\n\n"));
    let mut out = match outcome.is_empty() {
        true => "## Results\n\n".to_owned(),
        false => format!("## Results\n\nTraining ended with {outcome} (of the last batch). "),
    };
    out += &format!(
        "The margin is {MARGIN}: how far the vector, at direction d, moves the model towards the chosen response.\n\n"
    );
    out += &curve;
    if rows.is_empty() {
        return out + "No held-out pairs were scored.\n\n";
    }
    let pairs = training.get("eval_dataset").map(dataset).unwrap_or_default();
    let count = heldout_pairs(training);
    let best = training.get("best_epoch").and_then(Value::as_u64);
    out += &format!(
        "Held out: {}. *Right* is the share of pairs with a positive margin at +1, a negative one at -1, with its 95 % interval.\n\n\
         | epoch | step | margin at +1 | right | margin at -1 | right | loss |\n|--:|--:|--:|--:|--:|--:|--:|\n",
        markdown(&pairs)
    );
    for (record, heldout) in rows {
        let kept = if best == Some(record.epoch as u64) { " (kept)" } else { "" };
        let _ = writeln!(
            out,
            "| {}{kept} | {} | {:+.4} | {} | {:+.4} | {} | {:.4} |",
            record.epoch,
            record.step,
            heldout.positive_margin,
            in_percent(heldout.positive_right, count),
            heldout.negative_margin,
            in_percent(heldout.negative_right, count),
            heldout.loss
        );
    }
    out + "\n"
}

fn caa_results(training: &Value) -> String {
    let heldout = training.get("heldout").and_then(|heldout| serde_json::from_value::<Heldout>(heldout.clone()).ok());
    let Some(heldout) = heldout else { return String::new() };
    let count = heldout_pairs(training);
    format!(
        "## Results\n\nOn held-out pairs ({}) the mean margin is {:+.4} at direction +1 (positive for {} of the pairs) and \
         {:+.4} at −1 (negative for {}; brackets hold 95 % intervals), with margin = {MARGIN}.\n\n",
        markdown(&training.get("eval_dataset").map(dataset).unwrap_or_default()),
        heldout.positive_margin,
        in_percent(heldout.positive_right, count),
        heldout.negative_margin,
        in_percent(heldout.negative_right, count),
    )
}

const MARGIN: &str = "β·[(log π_d(chosen) − log π(chosen)) − (log π_d(rejected) − log π(rejected))]";

fn settings_table(training: &Value) -> String {
    let mut rows = settings(training);
    for key in ["dataset", "eval_dataset"] {
        let set = training.get(key).map(dataset).unwrap_or_default();
        let hash = training.get(key).and_then(|set| set.get("sha256")).and_then(Value::as_str);
        if !set.is_empty() {
            rows.push((readable(key), set + &hash.map_or(String::new(), |hash| format!(", SHA-256 {hash}"))));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let title = if is_caa(training) { "Settings" } else { "Training" };
    let mut out = format!("## {title}\n\n| setting | value |\n|---|---|\n");
    rows.iter().for_each(|(name, value)| {
        let _ = writeln!(out, "| {} | {} |", markdown(name), markdown(value));
    });
    out + "\n"
}

fn contents(vector: &SteeringVector, file: &str, training: &Value) -> String {
    let mut out = format!("## Files\n\n`{file}` holds f32 tensors and these settings as metadata:\n\n");
    out += "| tensor | shape | norm |\n|---|--:|--:|\n";
    for (layer, v) in &vector.layers {
        let _ = writeln!(out, "| `layer.{layer}` | {} | {:.4} |", v.len(), l2_norm(v));
    }
    if is_caa(training) {
        return out + "\n`config.json` holds the settings. Nothing was trained, so `metrics.jsonl` is empty.\n\n";
    }
    let curves = if cfg!(feature = "pictures") { "`training.svg` and `training.png`" } else { "`training.svg`" };
    out + "\n`steering_vector-epoch-NN.safetensors` is the vector after each epoch, `metrics.jsonl` has a line a step, "
        + curves
        + " its curve, `config.json` the settings.\n\n"
}

/// The paper that describes how the vector was made.
fn citation(training: &Value) -> Option<&'static str> {
    if is_caa(training) {
        return Some("Rimsky et al., *Steering Llama 2 via Contrastive Activation Addition*, ACL 2024, arXiv 2312.06681.");
    }
    match objective(training) {
        "lm" => None,
        "dpo" => Some(
            "Rafailov et al., *Direct Preference Optimization: Your Language Model is Secretly a Reward Model*, NeurIPS 2023, \
             arXiv 2305.18290.",
        ),
        "reps" => Some("Wu et al., *Improved Representation Steering for Language Models*, arXiv 2505.20809."),
        "simpo" => Some(
            "Meng et al., *SimPO: Simple Preference Optimization with a Reference-Free Reward*, NeurIPS 2024, arXiv 2405.14734.",
        ),
        _ => Some(
            "Cao et al., *Personalized Steering of Large Language Models: Versatile Steering Vectors Through Bi-directional \
             Preference Optimization*, NeurIPS 2024, arXiv 2406.00045.",
        ),
    }
}

/// Returns the settings of a vector's `training` metadata in order, with readable names and values on one line. Data sets and
/// outcomes are left out; see [`dataset`] and [`outcome_line`].
pub fn settings(training: &Value) -> Vec<(String, String)> {
    let Value::Object(map) = training else { return Vec::new() };
    let shown = |(key, value): (&String, &Value)| {
        let is_setting = !value.is_null() && !value.is_object() && !OUTCOMES.contains(&key.as_str());
        let factor = (key == "factor").then(|| factor(value)).flatten();
        let value = factor.or_else(|| is_setting.then(|| one_line(key, value)))?;
        Some((readable(key), value))
    };
    map.iter().filter_map(shown).collect()
}

/// Says where the factor on the vector came from in training.
fn factor(value: &Value) -> Option<String> {
    match serde_json::from_value(value.clone()).ok()? {
        Factor::One => None,
        Factor::Drawn(factors) => {
            let factors: Vec<String> = factors.iter().map(f32::to_string).collect();
            Some(format!("drawn from {}", factors.join(", ")))
        }
        Factor::Learned { scale, lr } => Some(format!("learned from {scale} times the root of the hidden size, at rate {lr}")),
    }
}

fn readable(key: &str) -> String {
    match key {
        "lr" => "learning rate".to_owned(),
        "eval_dataset" => "held-out pairs".to_owned(),
        key => key.replace('_', " "),
    }
}

/// Returns a value on one line, a path without its folders.
fn one_line(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if matches!(key, "system" | "response_prefix") && text != "auto" => value.to_string(),
        Value::String(text) if Path::new(text).is_absolute() || text.starts_with(['.', '~']) => {
            Path::new(text).file_name().map_or_else(|| text.clone(), |name| name.to_string_lossy().into_owned())
        }
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// Describes a data set from its metadata: `cheerful, 200 pairs (3 rows skipped)`. The text is empty for null.
pub fn dataset(set: &Value) -> String {
    let Some(name) = set.get("name").and_then(Value::as_str) else { return String::new() };
    let count = |key: &str| set.get(key).and_then(Value::as_u64);
    let pairs = count("pairs").map_or(String::new(), |pairs| format!(", {pairs} pairs"));
    let skipped =
        count("skipped_rows").filter(|rows| *rows > 0).map_or(String::new(), |rows| format!(" ({rows} rows skipped)"));
    format!("{name}{pairs}{skipped}")
}

/// Returns the number of held-out pairs that a vector's `training` metadata name; 0 if they name none.
pub fn heldout_pairs(training: &Value) -> usize {
    let pairs = training.get("eval_dataset").and_then(|set| set.get("pairs")).and_then(Value::as_u64);
    pairs.and_then(|pairs| usize::try_from(pairs).ok()).unwrap_or(0)
}

/// Describes the outcome in a vector's `training` metadata: `250 steps, loss 0.4123, margin +0.9312`. The text is empty if the
/// metadata has none of these.
pub fn outcome_line(training: &Value) -> String {
    let number = |key: &str| training.get(key).and_then(Value::as_f64);
    let steps = number("steps").map(|steps| format!("{steps} steps"));
    let loss = number("final_loss").map(|loss| format!("loss {loss:.4}"));
    let margin = number("final_margin").map(|margin| format!("margin {margin:+.4}"));
    [steps, loss, margin].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Escapes a text so that Markdown shows it literally, also in a cell of a table.
fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '|' | '<' | '>' | '[' | ']' | '#' | '&' | '~' | '$' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
