//! Flags of data sets: which rows and columns of them are used, and those of `data`.

use bipo::data::{AnswerForm, ColumnNames, LoadOptions, Ranking, TruthfulPairs};
use bipo::hub::options::FetchOptions;
use bipo::steering::positions::Positions;
use bipo::text::spans::Spans;
use clap::Args;

use super::headings::{DATA, MACHINE, MODEL, VECTOR};
use super::model::{ReportArgs, TemplateArgs};
use super::values::{one_of, positive};

/// The rows of a data set that are used, and how they make pairs.
#[derive(Debug, Args)]
#[command(next_help_heading = DATA)]
pub struct PairArgs {
    /// Use the first N rows only [default: all].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    /// Refuse a data set with a row that would be skipped.
    #[arg(long)]
    pub strict: bool,
    /// Pair TruthfulQA's best answer with all of its incorrect ones, or with the first.
    #[arg(long, default_value = "all", value_parser = one_of::<TruthfulPairs>())]
    pub pairs: TruthfulPairs,
    /// Pair ranked or scored responses: the best with the worst, each with the next worse one, or each with all that are worse.
    #[arg(long, default_value = "best-worst", value_parser = one_of::<Ranking>())]
    pub rank: Ranking,
    /// Name the columns of a data set: question=Q,chosen=A,rejected=B,system=S. Any of them can be left out; a.b is the key b
    /// inside column a [default: their usual names].
    #[arg(long, value_name = "ROLE=NAME,…")]
    pub columns: Option<ColumnNames>,
}

impl PairArgs {
    /// The library's settings for reading a data set.
    pub fn options(&self, fetch: FetchOptions) -> LoadOptions {
        let Self { limit, strict, pairs, rank, columns } = self;
        let columns = columns.clone().unwrap_or_default();
        LoadOptions { limit: *limit, strict: *strict, pairs: *pairs, rank: *rank, columns, fetch }
    }
}

#[derive(Debug, Args)]
#[command(
    mut_arg("response_prefix", |arg| arg.requires("model")),
    mut_arg("max_length", |arg| arg.requires("model")),
    mut_arg("system", |arg| arg.requires("model")),
    mut_arg("system_in_user", |arg| arg.requires("model")),
    mut_arg("template", |arg| arg.requires("model")),
    mut_arg("template_var", |arg| arg.requires("model"))
)]
pub struct DataArgs {
    /// Show this data set: a file, a bundled or published set's name, or hf:owner/name.
    #[arg(value_name = "DATASET")]
    pub dataset: String,
    #[command(flatten)]
    pub rows: PairArgs,
    /// Read multiple-choice questions, as eval --mc does, in place of pairs.
    #[arg(long, help_heading = DATA, conflicts_with_all = ["model", "strict", "columns", "rank", "pairs"])]
    pub mc: bool,
    /// Compare options by their letters or by their texts, as for eval.
    #[arg(long, help_heading = DATA, default_value = "auto", value_parser = one_of::<AnswerForm>(), requires = "mc")]
    pub mc_answers: AnswerForm,
    #[command(flatten)]
    pub encoding: EncodingArgs,
    /// Show which tokens a vector would be added at by this rule: all, prompt, response, last, first:N, last:N, or several joined by
    /// +, as for train.
    #[arg(long, help_heading = VECTOR, default_value = "all", value_name = "WHERE", requires = "model")]
    pub positions: Positions,
    /// Show only the tokens in messages of this role [default: any].
    #[arg(long, help_heading = VECTOR, value_parser = one_of::<Spans>(), requires = "model")]
    pub spans: Option<Spans>,
    /// Show the prompts as this model sees them, without reading its weights: an alias, a hub id, a directory or a .gguf
    /// file [default: none].
    #[arg(long, help_heading = MODEL)]
    pub model: Option<String>,
    #[command(flatten)]
    pub chat: TemplateArgs,
    /// Never use the network (also HF_HUB_OFFLINE=1).
    #[arg(long, help_heading = MACHINE)]
    pub offline: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// How pairs become tokens.
#[derive(Debug, Args)]
pub struct EncodingArgs {
    /// Put this text between prompt and response. auto writes what the chat template writes before and after an answer; if the
    /// template has no such form, it writes a space, unless the prompt ends in white space.
    #[arg(long, help_heading = DATA, default_value = "auto", allow_hyphen_values = true, value_name = "auto|TEXT")]
    pub response_prefix: String,
    /// Truncate longer pairs to this many tokens.
    #[arg(long, help_heading = DATA, default_value_t = 2048, value_name = "TOKENS", value_parser = positive)]
    pub max_length: usize,
}
