//! Flags of what generates and measures texts: `steer`, `eval` and `judge`.

use std::path::PathBuf;

use bipo::Result;
use bipo::data::AnswerForm;
use bipo::eval::Budget;
use bipo::generate::GenerateOptions;
use bipo::model::Decoding;
use bipo::steering::Operation;
use bipo::steering::magnitudes::{MagnitudeChoice, UsualMagnitudes};
use bipo::steering::positions::Positions;
use bipo::steering::vector::Metadata;
use bipo::text::spans::Spans;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::data::{EncodingArgs, PairArgs};
use super::headings::{DATA, GENERATION, JUDGE, MEASUREMENT, OUTPUT, VECTOR};
use super::model::{ModelArgs, ReportArgs};
use super::values::{
    between, damage, one_of, operation, positive, positive_number, probability, resamples, seconds, temperature, whole,
};

/// The vectors that steer, and where.
#[derive(Debug, Args)]
#[command(next_help_heading = VECTOR)]
pub struct VectorArgs {
    /// Steer with this vector, times SCALE if given; repeat to add several up
    /// [default: bipo_output/steering_vector.safetensors].
    #[arg(long, value_name = "FILE[:SCALE]", value_parser = NonEmptyStringValueParser::new())]
    pub vector: Vec<String>,
    /// Steer the output of this block, 0-based [default: the file's].
    #[arg(long, value_parser = whole::<usize>)]
    pub layer: Option<usize>,
    /// Add the vector at these tokens, whatever its file says: all, prompt, response (also what is generated), last, first:N,
    /// last:N, or several joined by +, as for train [default: the file's].
    #[arg(long, value_name = "WHERE")]
    pub positions: Option<Positions>,
    /// Add it only at tokens in messages of this role; generated text is the assistant's [default: the file's, or any role if
    /// --positions is given].
    #[arg(long, value_parser = one_of::<Spans>())]
    pub spans: Option<Spans>,
    /// Add the vector (add), or take out the part of the residual that lies along it (ablate): magnitude 1 takes out all of that
    /// part, 0 none [default: the file's, which is add unless it says otherwise].
    #[arg(long, value_parser = operation())]
    pub operation: Option<Operation>,
}

impl VectorArgs {
    /// How and where the user says that the vector is used.
    pub fn said(&self) -> Use {
        Use { operation: self.operation, positions: self.positions, spans: self.spans }
    }
}

/// What a user can say of a vector's use in place of its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Operation by which the vector enters the residual stream.
    pub operation: Option<Operation>,
    /// Tokens at which the vector is added.
    pub positions: Option<Positions>,
    /// Role whose messages the vector is added in.
    pub spans: Option<Spans>,
}

/// The vectors that steer, where, how strongly and how.
#[derive(Debug, Args)]
#[command(next_help_heading = VECTOR)]
pub struct SteeringArgs {
    #[command(flatten)]
    pub source: VectorArgs,
    /// Multiply the vector by these: a list -2,0,2, a range -2..2:0.5, or auto, the magnitudes that `bipo calibrate --save` stored
    /// in its file [default: -2,0,2, or 0,1 where it is taken out].
    #[arg(long, allow_hyphen_values = true, value_name = "LIST")]
    pub magnitudes: Option<MagnitudeChoice>,
    /// Steer only prompts whose score passes the condition in this file, made by `bipo train --method condition`; the others get the
    /// untouched model. ":>0.2" or ":<0.2" behind it, in quotes, replaces its threshold [default: steer all prompts].
    #[arg(long, value_name = "FILE[:>NUMBER]", value_parser = NonEmptyStringValueParser::new())]
    pub when: Option<String>,
}

impl SteeringArgs {
    /// The magnitudes of a vector, whose metadata are those that it is used with; `usual` ones where the user names none.
    pub fn magnitudes_of(&self, vector: &Metadata, usual: UsualMagnitudes) -> Result<Vec<f32>> {
        let choice = self.magnitudes.clone().unwrap_or(MagnitudeChoice::Usual(usual));
        choice.of(vector.calibration.as_ref(), vector.operation)
    }
}

/// How tokens are chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = GENERATION)]
pub struct SamplingArgs {
    /// Sample at this temperature; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    pub temperature: f64,
    /// Sample from the likeliest tokens whose probabilities sum up to this [default: all].
    #[arg(long, value_parser = probability)]
    pub top_p: Option<f64>,
    /// Sample from this many of the likeliest tokens [default: all].
    #[arg(long, value_parser = positive)]
    pub top_k: Option<usize>,
    /// Make tokens that the text already has less likely, by this factor on their logits; 1 changes nothing.
    #[arg(long, default_value_t = 1.0, value_parser = positive_number)]
    pub repeat_penalty: f64,
    /// Seed the sampler; greedy decoding needs no seed.
    #[arg(long, default_value_t = 11, value_parser = whole::<u64>)]
    pub seed: u64,
}

impl SamplingArgs {
    /// `options` with tokens chosen so.
    pub fn choosing(&self, options: GenerateOptions) -> GenerateOptions {
        GenerateOptions {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            repeat_penalty: self.repeat_penalty as f32,
            seed: self.seed,
            ..options
        }
    }
}

/// How exactly tokens are computed.
#[derive(Debug, Args)]
#[command(next_help_heading = GENERATION)]
pub struct DecodingArgs {
    /// Keep activations in f32 where the weights are quantized: slower, and the text that dense weights give. Without it they are
    /// rounded to 8 bits while tokens are generated, as llama.cpp does.
    #[arg(long)]
    pub exact: bool,
}

impl DecodingArgs {
    /// How a model generates.
    pub fn decoding(&self) -> Decoding {
        if self.exact { Decoding::Exact } else { Decoding::Integer }
    }
}

/// The prompts that are answered.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Answer this prompt; repeat for several.
    #[arg(long, help_heading = DATA, allow_hyphen_values = true, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// Answer each line of this file; - is standard input. Of a CSV, JSON or Parquet file, and where every line is a JSON object, the
    /// prompts are a column such as question, or the conversations in messages. A published set's name, such as alpacaeval, stands for
    /// its prompts.
    #[arg(long, help_heading = DATA, value_name = "FILE|NAME", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SteerArgs {
    #[command(flatten)]
    pub steering: SteeringArgs,
    #[command(flatten)]
    pub asked: PromptArgs,
    /// Generate at most this many tokens.
    #[arg(long, help_heading = GENERATION, default_value_t = 128, value_parser = positive)]
    pub max_new_tokens: usize,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub decoding: DecodingArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Show each prompt as the model sees it, on standard error: with the chat template and special tokens, and its token ids.
    #[arg(long, help_heading = OUTPUT)]
    pub show_prompt: bool,
    /// Also write the texts to this file, as JSON lines, after each prompt that is answered. The first line says what they are
    /// generated from.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also write a web page to this file: the texts side by side, the settings and the command, all in the one file.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    mut_arg("limit", |arg| arg.help("Use the first N rows of each data set, question file and file or set of prompts only [default: all]")),
    mut_arg("prompt", |arg| {
        arg.help("Answer this prompt, to measure the repetition in the texts; repeat for several [default: eight bundled ones]")
    }),
    mut_arg("magnitudes", |arg| arg.help(
        "Multiply the vector by these: a list -2,0,2, a range -2..2:0.5, or auto, the magnitudes that `bipo calibrate --save` stored in its \
         file [default: -2..2:1, or 0,1 where it is taken out]"
    ))
)]
pub struct EvalArgs {
    #[command(flatten)]
    pub steering: SteeringArgs,
    /// Measure every vector at its own largest magnitudes within this budget of damage, so that their effects are compared at the
    /// same cost: kl=1 (nats a generated token, 95th percentile) or ppl=1.1 (perplexity of the neutral text, as a multiple). The former takes 20 tokens of each answer.
    #[arg(long, help_heading = MEASUREMENT, value_name = "NAME=VALUE", conflicts_with = "magnitudes", value_parser = damage)]
    pub at: Option<Budget>,
    /// Measure preference on these held-out pairs, named as for train [default: none].
    #[arg(long, help_heading = DATA)]
    pub dataset: Option<String>,
    #[command(flatten)]
    pub rows: PairArgs,
    #[command(flatten)]
    pub encoding: EncodingArgs,
    /// Multiply the margin by this, the strength of the preference [default: the vector's, else 0.1].
    #[arg(long, help_heading = MEASUREMENT, value_parser = positive_number)]
    pub beta: Option<f64>,
    /// Say how often the condition of --when fires on these prompts, which need no steering, and what it costs there: KL(steered ‖
    /// untouched) of a token of the answer, 0 where it does not fire; a file of lines or a table, as for `bipo train --against`
    /// [default: none].
    #[arg(long, help_heading = DATA, value_name = "FILE|NAME", requires = "when", value_parser = NonEmptyStringValueParser::new())]
    pub against: Option<String>,
    /// Ask these multiple-choice questions, of a file or a published set such as mmlu: TruthfulQA, A/B items, Yes/No items or any
    /// number of options; repeat for several.
    #[arg(long, help_heading = DATA, value_name = "FILE|NAME")]
    pub mc: Vec<String>,
    /// Compare options by their letters, which the prompt lists, or by their texts; auto takes the texts if they continue a text,
    /// else the letters.
    #[arg(long, help_heading = DATA, default_value = "auto", value_parser = one_of::<AnswerForm>())]
    pub mc_answers: AnswerForm,
    /// Read this neutral text for perplexity and KL divergence [default: a bundled one].
    #[arg(long, help_heading = DATA, value_name = "FILE")]
    pub text: Option<PathBuf>,
    #[command(flatten)]
    pub asked: PromptArgs,
    /// Generate at most this many tokens.
    #[arg(long, help_heading = GENERATION, default_value_t = 64, value_parser = positive)]
    pub max_new_tokens: usize,
    /// Leave out the neutral text (text), the generated texts (generation) or both (text,generation) [default: neither].
    #[arg(long, help_heading = MEASUREMENT, value_delimiter = ',')]
    pub skip: Vec<SkipArg>,
    /// Compare with a random direction (random), with the untouched model under a system prompt (prompt, see --baseline-system), or
    /// with another vector file; repeat for several [default: none].
    #[arg(long, help_heading = MEASUREMENT, value_name = "random|prompt|FILE", value_parser = NonEmptyStringValueParser::new())]
    pub baseline: Vec<String>,
    /// Give the baseline prompt this system prompt, in place of --system.
    #[arg(long, help_heading = MEASUREMENT, value_name = "TEXT")]
    pub baseline_system: Option<String>,
    /// Draw this many bootstrap resamples for each 95 % interval.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 1000, value_name = "N", value_parser = resamples)]
    pub bootstrap: usize,
    /// Seed the resamples and the random direction.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 11, value_parser = whole::<u64>)]
    pub seed: u64,
    #[command(flatten)]
    pub judge: JudgeArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Write the log-probabilities of each pair at each magnitude to this file, one JSON object a line.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub per_pair: Option<PathBuf>,
    /// Also write the table to this CSV file, after each magnitude that is measured.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw effect and damage against magnitude into this file, .svg or .png; repeat for both.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub plot: Vec<PathBuf>,
    /// Also write a web page to this file: settings, tables, curves and texts, all in the one file.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SkipArg {
    Text,
    Generation,
}

/// A language model that grades texts; `commands::judge` makes sense of it.
#[derive(Debug, Args)]
#[command(next_help_heading = JUDGE)]
pub struct JudgeArgs {
    /// Ask the OpenAI-compatible chat endpoint at this URL; its key comes from BIPO_JUDGE_KEY or OPENAI_API_KEY.
    #[arg(long, value_name = "URL")]
    pub judge: Option<String>,
    /// Choose the model that grades, by the name that the endpoint has for it.
    #[arg(long, value_name = "NAME")]
    pub judge_model: Option<String>,
    /// Grade by this rubric, a text that says what the scores 1 to 4 mean: a file, or one of cheerful, formal, concise,
    /// power-seeking, wealth-seeking, hallucination.
    #[arg(long, value_name = "FILE|NAME")]
    pub rubric: Option<String>,
    /// Ask this many questions at a time.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = between(1, 256))]
    pub judge_concurrency: u16,
    /// Wait this many seconds for an answer before asking again.
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS", value_parser = seconds)]
    pub judge_timeout: f64,
    /// Append each score to this file, and do not ask again for those that it has [default: none].
    #[arg(long, value_name = "FILE")]
    pub judge_results: Option<PathBuf>,
    /// Print what the judge would be asked, and ask nothing.
    #[arg(long, conflicts_with = "json")]
    pub judge_dry_run: bool,
}

#[derive(Debug, Args)]
pub struct JudgeTextsArgs {
    /// Grade the texts of this file, as `bipo steer --output` writes it, or of any JSON that has prompt, magnitude and text each.
    #[arg(value_name = "FILE")]
    pub texts: PathBuf,
    /// Grade by AxBench's protocol how well texts show this concept: concept, instruction and fluency from 0 to 2, and the factor chosen
    /// on one half of the prompts and scored on the other.
    #[arg(long, help_heading = JUDGE, value_name = "TEXT", conflicts_with = "rubric", value_parser = NonEmptyStringValueParser::new())]
    pub concept: Option<String>,
    /// Score how well the concept is kept out: it counts as 2 minus its grade.
    #[arg(long, help_heading = JUDGE, requires = "concept")]
    pub suppress: bool,
    #[command(flatten)]
    pub judge: JudgeArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}
