//! Everything that an evaluation measures on, read before a model is loaded.

use std::path::Path;

use bipo::data::{Dataset, PromptSet, QuestionSet, Source, load_prompts, load_questions};
use bipo::eval::EvalMaterial;
use bipo::eval::damage::NEUTRAL_TEXT;
use bipo::machine::files::read_text;
use bipo::steering::lens::NEUTRAL_PROMPTS;
use bipo::text::tokens::added_bos;
use bipo::{Error, Result};

use crate::args::{EvalArgs, SkipArg};
use crate::commands::prompts::{UserPrompt, read_questions};
use crate::commands::run::load_data;
use crate::downloads::fetch_options;
use crate::terminal::Log;
use bipo::session::Session;

/// Everything that is measured on, as it was read.
pub struct Inputs {
    pub dataset: Option<Dataset>,
    pub questions: Vec<QuestionSet>,
    pub text: String,
    pub asked: Vec<UserPrompt>,
    /// Texts of the questions in `asked`, as they are shown.
    pub prompts: Vec<String>,
    /// The numbers that answer them, where they are known.
    pub answers: Vec<Option<f64>>,
    /// Prompts that need no steering, which a condition should not fire on.
    pub rest: Option<PromptSet>,
}

impl Inputs {
    pub fn read(args: &EvalArgs, log: Log) -> Result<Self> {
        let fetch = fetch_options(args.model.offline);
        let options = args.rows.options(fetch);
        let dataset = args.dataset.as_ref().map(|name| load_data(name, &options, log)).transpose()?;
        let read = |name: &String| load_questions(&Source::parse(name)?, args.rows.limit, args.mc_answers, &fetch);
        let questions: Vec<QuestionSet> = args.mc.iter().map(read).collect::<Result<_>>()?;
        for QuestionSet { name, skipped, rows, .. } in &questions {
            if let Some(first) = skipped.first() {
                let (count, row, reason) = (skipped.len(), first.row, &first.reason);
                log.warn(format!("{name}: {count} of {rows} rows skipped, the first is row {row}: {reason}; bipo data --mc counts all reasons"));
            }
        }
        if let Some(twice) = (1..questions.len()).find(|i| questions[..*i].iter().any(|set| set.name == questions[*i].name)) {
            let name = &questions[twice].name;
            return Err(Error::Argument(format!("--mc: two sets are called {name}: rename one, names are headings")));
        }
        let text = match &args.text {
            _ if args.skip.contains(&SkipArg::Text) => String::new(),
            None => NEUTRAL_TEXT.to_owned(),
            Some(path) => neutral_text(path)?,
        };
        let asked = match (args.skip.contains(&SkipArg::Generation), &args.asked.prompts) {
            (true, _) => Vec::new(),
            (false, None) if args.asked.prompt.is_empty() => NEUTRAL_PROMPTS.map(UserPrompt::new).into(),
            (false, _) => read_questions(&args.asked, args.rows.limit, &fetch)?,
        };
        let prompts = asked.iter().map(|question| question.text.clone()).collect();
        let answers = asked.iter().map(|question| question.answer).collect();
        let rest = |name: &String| load_prompts(&Source::parse(name)?, args.rows.limit, &fetch);
        let rest = args.against.as_ref().map(rest).transpose()?;
        let inputs = Self { dataset, questions, text, asked, prompts, answers, rest };
        if inputs.dataset.is_none() && !inputs.is_empty() {
            log.info("note: no --dataset: preference is not measured");
        }
        match inputs.is_empty() {
            true => Err(Error::Argument("nothing to measure: give --dataset or --mc, or leave --skip out".into())),
            false => Ok(inputs),
        }
    }

    fn is_empty(&self) -> bool {
        self.dataset.is_none()
            && self.questions.is_empty()
            && self.text.is_empty()
            && self.prompts.is_empty()
            && self.rest.is_none()
    }

    pub fn material(&self, args: &EvalArgs, opened: &Session) -> Result<EvalMaterial<'_>> {
        Ok(EvalMaterial {
            pairs: self.dataset.as_ref().map_or(&[], |set| set.pairs.as_slice()),
            questions: &self.questions,
            text: &self.text,
            bos: added_bos(opened.encoder.tokenizer())?,
            prompts: &self.prompts,
            answers: &self.answers,
            max_length: args.encoding.max_length.min(opened.config.max_position_embeddings),
            context: opened.config.max_position_embeddings,
        })
    }
}

pub fn neutral_text(path: &Path) -> Result<String> {
    let text = read_text(path)?;
    match text.trim().is_empty() {
        true => Err(Error::malformed(path, "the file is empty: expected plain text")),
        false => Ok(text.trim_end().to_owned()),
    }
}
