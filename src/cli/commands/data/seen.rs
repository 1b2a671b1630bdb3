//! How a model sees pairs: the rendered prompt with its special tokens, where each response begins, token ids, steered tokens,
//! truncation and lengths. The model's tokenizer and template are read, and none of its weights.

use std::fmt::Write;

use bipo::Result;
use bipo::data::Dataset;
use bipo::session::{Session, SessionOptions};
use bipo::steering::reach::Reach;
use bipo::text::tokens::EncodedResponse;
use serde::Serialize;

use super::SHOWN;
use crate::args::{DataArgs, response_prefix};
use crate::commands::session;
use crate::terminal::Log;

/// Number of bars of the histogram of lengths, and the width of the longest.
const BARS: usize = 8;
const BAR_WIDTH: usize = 40;

/// A data set as a model sees it.
#[derive(Serialize)]
pub struct Seen {
    name: String,
    template: String,
    max_length: usize,
    /// Number of pairs of which a part is cut off.
    truncated: usize,
    /// Number of pairs whose responses are the same tokens; training leaves them out.
    equal: usize,
    lengths: Lengths,
    /// The first pairs, or all of them for `--json`.
    #[serde(skip)]
    pub pairs: Vec<SeenPair>,
}

/// A pair as a model sees it.
#[derive(Serialize)]
pub struct SeenPair {
    truncated: bool,
    chosen: SeenResponse,
    rejected: SeenResponse,
}

/// A response behind its prompt.
#[derive(Serialize)]
struct SeenResponse {
    /// Token ids of the prompt and the response.
    ids: Vec<u32>,
    /// Index of the first token of the response.
    response_start: usize,
    /// Texts of the tokens before and from there, with special tokens.
    prompt: String,
    response: String,
    /// Half-open ranges of the steered tokens.
    steered: Vec<[usize; 2]>,
}

/// Numbers of tokens of the sequences, two for each pair.
#[derive(Serialize)]
struct Lengths {
    sequences: usize,
    min: usize,
    median: usize,
    max: usize,
    histogram: Vec<Bar>,
}

/// Number of sequences of `from` to `to` tokens.
#[derive(Serialize)]
struct Bar {
    from: usize,
    to: usize,
    sequences: usize,
}

impl Seen {
    /// Encodes the pairs as training does.
    pub fn of(model: &str, dataset: &Dataset, args: &DataArgs, log: Log) -> Result<Self> {
        let options = SessionOptions {
            model: model.to_owned(),
            device: "cpu".to_owned(),
            system: args.chat.system.clone(),
            system_in_user: args.chat.system_in_user,
            template: args.chat.template.clone(),
            template_variables: args.chat.template_var.clone(),
            response_prefix: response_prefix(&args.encoding.response_prefix),
            offline: args.offline,
            progress: log.downloads(),
            ..Default::default()
        };
        let mut session = session::open_with(options, log)?;
        session.encoder.tell_places(args.spans, args.positions.ends());
        let max_length = args.encoding.max_length.min(session.config.max_position_embeddings);
        session::warn_of_pairs(&session, &dataset.pairs, log);
        let (mut truncated, mut equal, mut reach) = (0, 0, Reach::default());
        let (mut pairs, mut lengths) = (Vec::new(), Vec::new());
        for pair in &dataset.pairs {
            let (encoded, is_truncated) = session.encoder.encode_pair(pair, max_length)?;
            truncated += usize::from(is_truncated);
            equal += usize::from(encoded.chosen.ids == encoded.rejected.ids);
            reach.count(args.positions, std::slice::from_ref(&encoded));
            lengths.extend([encoded.chosen.ids.len(), encoded.rejected.ids.len()]);
            if args.report.json || pairs.len() < SHOWN {
                let response = |encoded: EncodedResponse| SeenResponse::of(&session, encoded, args);
                let (chosen, rejected) = (response(encoded.chosen)?, response(encoded.rejected)?);
                pairs.push(SeenPair { truncated: is_truncated, chosen, rejected });
            }
        }
        match session::check_reach(&dataset.name, reach, args.spans) {
            Ok(()) => session::warn_of_undecided(&dataset.name, "pairs", reach, log),
            Err(problem) => log.warn(problem.to_string()),
        }
        let (name, template) = (session.files.name.clone(), session.encoder.template().name().to_owned());
        Ok(Self { name, template, max_length, truncated, equal, lengths: Lengths::of(lengths), pairs })
    }

    /// What is true of the whole data set, as text.
    pub fn summary(&self) -> String {
        let Self { name, template, max_length, truncated, equal, lengths, .. } = self;
        let mut text = format!("\nAs {name} sees it, with the chat template {template}\n");
        let _ = writeln!(text, "{truncated} of {} pairs truncated to {max_length} tokens", lengths.sequences / 2);
        if *equal > 0 {
            let _ = writeln!(text, "{equal} pairs left out of training: both responses are the same tokens");
        }
        let Lengths { min, median, max, histogram, .. } = lengths;
        let _ = writeln!(text, "tokens of a prompt with a response: {min} to {max}, median {median}");
        let most = histogram.iter().map(|bar| bar.sequences).max().unwrap_or(1).max(1);
        let width = max.to_string().len();
        for Bar { from, to, sequences } in histogram {
            let bar = "█".repeat((sequences * BAR_WIDTH).div_ceil(most));
            let _ = writeln!(text, "  {from:>width$} to {to:>width$} {bar} {sequences}");
        }
        text
    }
}

impl SeenPair {
    /// The pair, as lines of text.
    pub fn text(&self) -> String {
        let mut text = format!("  prompt as the model sees it: {:?}\n", self.chosen.prompt);
        for (name, side) in [("chosen", &self.chosen), ("rejected", &self.rejected)] {
            let SeenResponse { ids, response_start, response, steered, .. } = side;
            let count: usize = steered.iter().map(|[from, to]| to - from).sum();
            let ranges: Vec<String> = steered.iter().map(|[from, to]| format!("{from}..{to}")).collect();
            let _ = writeln!(text, "  {name}, from token {response_start} of {}: {response:?}", ids.len());
            let _ = writeln!(text, "    ids {}", listed(&ids[..*response_start], &ids[*response_start..]));
            let _ = writeln!(text, "    steered {count} of {} tokens: {}", ids.len(), ranges.join(", "));
        }
        if self.truncated {
            text.push_str("  truncated\n");
        }
        text
    }
}

fn listed(prompt: &[u32], response: &[u32]) -> String {
    let join = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    format!("{} | {}", join(prompt), join(response))
}

impl SeenResponse {
    fn of(session: &Session, encoded: EncodedResponse, args: &DataArgs) -> Result<Self> {
        let is_steered = |token: usize| args.positions.steers_token(&encoded, token);
        let mut steered: Vec<[usize; 2]> = Vec::new();
        for token in (0..encoded.ids.len()).filter(|token| is_steered(*token)) {
            match steered.last_mut() {
                Some([_, to]) if *to == token => *to += 1,
                _ => steered.push([token, token + 1]),
            }
        }
        let EncodedResponse { ids, start, .. } = encoded;
        let decode = |ids: &[u32]| session.encoder.decode(ids, false);
        let (prompt, response) = (decode(&ids[..start])?, decode(&ids[start..])?);
        Ok(Self { response_start: start, prompt, response, steered, ids })
    }
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let (min, max) = (lengths.first().copied().unwrap_or(0), lengths.last().copied().unwrap_or(0));
        let width = (max + 1 - min).div_ceil(BARS);
        let bar = |from: usize| {
            let to = (from + width - 1).min(max);
            Bar { from, to, sequences: lengths.iter().filter(|length| (from..=to).contains(length)).count() }
        };
        let histogram = (min..=max).step_by(width).map(bar).collect();
        Self { sequences: lengths.len(), min, median: lengths.get(lengths.len() / 2).copied().unwrap_or(0), max, histogram }
    }
}
