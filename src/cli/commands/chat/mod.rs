//! `bipo chat`: a conversation with a steered model, on a terminal or through a pipe. `command` says what a line means, `input`
//! where lines come from, `room` how long it may grow, `conversation` what was said; `speaker` answers, `vector` steers,
//! `screen` shows, and `stop` is Ctrl-C.
//!
//! Begin with [`run`].

mod command;
mod conversation;
mod input;
mod room;
mod screen;
mod speaker;
mod stop;
mod vector;

use std::path::Path;

use bipo::data::Message;
use bipo::generate::{FinishReason, GenerateOptions, Generation, Prompt, Request};
use bipo::machine::files::{check_writable, write_atomic};
use bipo::model::Model;
use bipo::session::Session;
use bipo::steering::condition::{Verdict, When};
use bipo::steering::magnitudes::MagnitudeChoice;
use bipo::steering::magnitudes::signed;
use bipo::text::thought::{Parted, ThoughtPiece};
use bipo::text::tokens::{EncodedPrompt, ResponsePrefix};
use bipo::{Error, Result};
use candle_core::DType;
use serde_json::json;

use self::command::{Change, ChatLine};
use self::conversation::{Answered, Conversation, Said, Steered};
use self::input::{LineSource, UserInput};
use self::room::limits;
use self::screen::Screen;
use self::speaker::Speaker;
use self::stop::Stop;
use self::vector::Chosen;
use super::next;
use super::room::demand;
use super::session;
use super::sweep::{PromptTexts, document, greedy, in_words};
use super::training::TEST_PROMPT;
use super::vectors::{check_when, read_when, strength_note};
use crate::args::{ChatArgs, given};
use crate::hints;
use crate::terminal::{self, Log};

/// Flags of the vector's use, which hold for the vectors that are chosen on the way, too.
const STEERED: [&str; 5] = ["--layer", "--operation", "--positions", "--spans", "--when"];

pub fn run(args: &ChatArgs) -> anyhow::Result<()> {
    let log = Log::new(args.model.verbose, args.model.quiet);
    let named = vector::first(&args.vector, log)?;
    let when = read_when(args.when.as_ref())?;
    let mut session = session::open(&args.model, ResponsePrefix::Auto, log)?;
    let chosen = Chosen::new(named, &session, log)?;
    check_when(when.as_ref(), &session, log)?;
    chosen.use_in(&mut session)?;
    let (limits, context) = limits(args.context, &session)?;
    let model = session::load_to_generate(&session, &demand(limits), args.decoding.decoding(), log)?;
    let speaker = Speaker::new(&model, limits)?;
    let mut input = LineSource::open(log)?;
    let mut chat = Chat {
        args,
        model: &model,
        when,
        log,
        is_terminal: input.is_terminal(),
        session,
        speaker,
        chosen,
        magnitude: args.magnitude as f32,
        told_of: None,
        context,
        conversation: Conversation::default(),
        stop: Stop::listen(input::restorer())?,
    };
    log.info(chat.chosen.describe(chat.magnitude));
    if let Some(when) = &args.when {
        log.info(format!("only where the condition {when} fires"));
    }
    if chat.is_terminal {
        log.info(format!("room for {context} tokens; /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends"));
    }
    let ended = chat.talk(&mut input);
    input.close(log);
    ended?;
    let (what, command) = chat.continued();
    next::tell(args.model.json, what, &command, log);
    Ok(())
}

/// A conversation and what it is held with.
struct Chat<'a> {
    args: &'a ChatArgs,
    log: Log,
    model: &'a Model,
    /// Condition that says which answers are steered; all are where it is none.
    when: Option<When>,
    is_terminal: bool,
    session: Session,
    speaker: Speaker<'a>,
    chosen: Chosen,
    magnitude: f32,
    /// The magnitude whose strength the user was told of, with this vector.
    told_of: Option<f32>,
    /// Tokens that the conversation may grow to.
    context: usize,
    conversation: Conversation,
    stop: Stop,
}

/// An answer, as it was generated and as it was said.
struct Spoken {
    text: Generation,
    is_stopped: bool,
    said: Said,
    /// What the condition said of the question.
    verdict: Option<Verdict>,
}

/// Whether the conversation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

impl Chat<'_> {
    /// Takes lines until the user ends. What is wrong with one is told, and the next one taken.
    fn talk(&mut self, input: &mut LineSource) -> anyhow::Result<()> {
        loop {
            let prompt = match self.chosen.vector {
                Some(_) => format!("{}> ", signed(self.magnitude)),
                None => "> ".to_owned(),
            };
            let done = match input.next(&prompt) {
                Ok(UserInput::Line(line)) => ChatLine::parse(&line).map_err(Into::into).and_then(|line| self.act(line)),
                Ok(UserInput::End) => return Ok(()),
                Err(error) => Err(error),
            };
            match done {
                Ok(Then::GoOn) => {}
                Ok(Then::End) => return Ok(()),
                Err(error) => match error.downcast_ref::<Error>() {
                    None | Some(Error::Interrupted) => return Err(error),
                    // All other errors of the library are about one line of the user's, and the next can be taken.
                    Some(told) => terminal::error(&terminal::line_of(&error, self.hint(told).as_deref())),
                },
            }
        }
    }

    /// The command that goes on from here: it steers as the conversation did at its end, or learns what could steer it.
    fn continued(&self) -> (&'static str, String) {
        let is_of_model = |flag: &str| flag != "--system" && next::MODEL.contains(&flag);
        let with_system = |command: String| match self.session.encoder.system() {
            Some(system) => next::with(&command, "--system", system),
            None => command,
        };
        if self.chosen.names.is_empty() {
            return ("learn a vector", with_system(next::command("train", &given(), is_of_model)));
        }
        let command = with_system(next::command("steer", &given(), |flag| is_of_model(flag) || STEERED.contains(&flag)));
        let command = self.chosen.names.iter().fold(command, |command, name| next::with(&command, "--vector", name));
        let command = next::with(&command, "--magnitudes", &self.magnitude.to_string());
        ("steer other prompts", format!("{command} --prompt \"{TEST_PROMPT}\""))
    }

    fn act(&mut self, line: ChatLine) -> anyhow::Result<Then> {
        match line {
            ChatLine::Empty => {}
            ChatLine::Question(question) => self.answer(question)?,
            ChatLine::Magnitude(None) => self.tell(&format!("magnitude {}", signed(self.magnitude)))?,
            ChatLine::Magnitude(Some(magnitude)) => {
                self.magnitude = magnitude;
                self.log.info(self.chosen.describe(magnitude));
            }
            ChatLine::Vector(Change::Show) => self.tell(&self.chosen.describe(self.magnitude))?,
            ChatLine::Vector(Change::Remove) => self.choose((Vec::new(), None))?,
            ChatLine::Vector(Change::To(file)) => self.choose(vector::read(vec![file], &self.args.vector, self.log)?)?,
            ChatLine::System(Change::Show) => self.tell(self.session.encoder.system().unwrap_or("no system prompt"))?,
            ChatLine::System(Change::Remove) => self.set_system(None)?,
            ChatLine::System(Change::To(system)) => self.set_system(Some(system))?,
            ChatLine::Compare(magnitudes) => self.compare(&magnitudes)?,
            ChatLine::Reset => {
                self.conversation = Conversation::default();
                self.log.info("a new conversation");
            }
            ChatLine::Save(path) => self.save(&path)?,
            ChatLine::Help => self.tell(command::help().trim_end())?,
            ChatLine::Quit => return Ok(Then::End),
        }
        Ok(Then::GoOn)
    }

    /// What helps with an error; that a number is not finite is said with what helps here.
    fn hint(&self, error: &Error) -> Option<String> {
        let is_f32 = || self.session.placement.dtype == DType::F32;
        if matches!(error, Error::NotFinite(_)) { None } else { hints::hint(error, is_f32) }
    }

    /// A line that the user asked for.
    fn tell(&self, line: &str) -> anyhow::Result<()> {
        if self.args.model.json {
            self.log.info(line);
            return Ok(());
        }
        Ok(terminal::result(&format!("{line}\n"))?)
    }

    /// Steers by other vectors from now on; where these do not fit, nothing changes.
    fn choose(&mut self, named: vector::NamedVectors) -> Result<()> {
        let chosen = Chosen::new(named, &self.session, self.log)?;
        if let Err(error) = chosen.use_in(&mut self.session) {
            self.chosen.use_in(&mut self.session)?;
            return Err(error);
        }
        self.chosen = chosen;
        self.told_of = None;
        self.log.info(self.chosen.describe(self.magnitude));
        Ok(())
    }

    /// Puts another system prompt in front; where the chat template refuses it, nothing changes.
    fn set_system(&mut self, system: Option<String>) -> Result<()> {
        let former = self.session.encoder.set_system(system);
        let drops = session::warn_of_dropped_system(&self.session, self.log).inspect_err(|_| {
            self.session.encoder.set_system(former);
        })?;
        let has_conversation = if self.conversation.len() > 0 { ", which the whole conversation begins with" } else { "" };
        match self.session.encoder.system() {
            Some(_) if drops => {}
            Some(_) => self.log.info(format!("a new system prompt{has_conversation}")),
            None => self.log.info("no system prompt"),
        }
        Ok(())
    }

    /// Answers a question while it is shown, and keeps both.
    fn answer(&mut self, question: String) -> anyhow::Result<()> {
        let messages = self.conversation.with_question(&question);
        let (encoded, options) = self.prompt(&messages)?;
        let parted = Parted::new(self.session.encoder.opens_thought(&messages)?);
        let Spoken { text, is_stopped, mut said, verdict } = self.speak(&encoded, &options, parted)?;
        if text.token_ids.is_empty() && is_stopped {
            self.log.info("stopped before the first word: the question is not kept");
            return self.after_stop();
        }
        if text.token_ids.is_empty() && text.finish_reason == FinishReason::NotFinite {
            let problem =
                format!("the logits are not finite at magnitude {}: take a smaller one with /m", signed(text.magnitude));
            return Err(Error::NotFinite(problem).into());
        }
        let finish_reason = if is_stopped { json!("interrupted") } else { json!(text.finish_reason) };
        said.answered = Some(Answered { steering: Steered { when: verdict, ..self.steered(&text) }, finish_reason });
        match self.args.model.json {
            true => terminal::json(&said)?,
            // Without a word it was not shown.
            false if said.is_empty() => terminal::result("\n")?,
            false => {}
        }
        self.conversation.push(question, said);
        if is_stopped {
            self.log.info("stopped");
            return self.after_stop();
        }
        self.say_why_it_ended(&text, encoded.ids.len());
        self.say_how_strong(&text);
        Ok(())
    }

    /// Says so, once for a magnitude, where the vector is more than the model is likely to bear.
    fn say_how_strong(&mut self, text: &Generation) {
        let note = self.chosen.vector.as_ref().and_then(|vector| strength_note(vector, &[(text.magnitude, text.dose)]));
        if let Some(note) = note.filter(|_| self.told_of != Some(text.magnitude)) {
            self.told_of = Some(text.magnitude);
            self.log.warn(note);
        }
    }

    /// Generates an answer while it is shown, until it ends or is stopped.
    fn speak(&mut self, prompt: &EncodedPrompt, options: &GenerateOptions, mut parted: Parted) -> anyhow::Result<Spoken> {
        let verdict = self.verdict(prompt)?;
        verdict.iter().for_each(|verdict| self.log.info(in_words(*verdict)));
        let prompt = Prompt::from(prompt).under(verdict);
        let request = Request::new(prompt, &self.chosen.steering, self.magnitude, options);
        let encoder = &self.session.encoder;
        let mut stream = encoder.stream();
        let (mut screen, mut said) = (Screen::new(!self.args.model.json), Said::unsaid());
        let mut take = |piece: ThoughtPiece| {
            screen.show(&piece)?;
            said.take(piece);
            anyhow::Ok(())
        };
        let stoppable = self.stop.begin();
        let answered = self.speaker.answer(vec![(self.magnitude, request)], &stoppable, &mut |_, id| {
            let text = if encoder.is_eos(id) { None } else { stream.push(id)? };
            text.iter().flat_map(|text| parted.push(text)).try_for_each(&mut take)
        });
        drop(stoppable);
        let rest = parted.push(&stream.finish()?);
        rest.into_iter().chain(parted.finish()).try_for_each(take)?;
        if !said.is_empty() {
            screen.end()?;
        }
        let (mut texts, is_stopped) = answered?;
        Ok(Spoken { text: texts.swap_remove(0), is_stopped, said, verdict })
    }

    /// What the condition says of a prompt that a vector would steer.
    fn verdict(&self, prompt: &EncodedPrompt) -> Result<Option<Verdict>> {
        let when = self.when.as_ref().filter(|_| self.chosen.vector.is_some());
        when.map(|when| when.ask(self.model, &prompt.ids)).transpose()
    }

    /// Ends the conversation after an answer is stopped where there is no terminal: whoever stops it there means the whole.
    fn after_stop(&self) -> anyhow::Result<()> {
        if self.is_terminal { Ok(()) } else { Err(Error::Interrupted.into()) }
    }

    fn steered(&self, text: &Generation) -> Steered {
        let (vectors, layers) = (self.chosen.names.clone(), self.chosen.layers());
        let magnitude = if vectors.is_empty() { 0.0 } else { text.magnitude };
        Steered { vectors, layers, magnitude, dose: text.dose, when: None }
    }

    /// Says that an answer was cut, and by what.
    fn say_why_it_ended(&self, text: &Generation, prompt: usize) {
        let tokens = text.token_ids.len();
        match text.finish_reason {
            FinishReason::Stop => {}
            FinishReason::Length if prompt + tokens >= self.context => self.log.warn(format!(
                "the conversation has filled its {} tokens, and the answer is cut: /reset begins a new one",
                self.context
            )),
            FinishReason::Length if tokens == self.args.max_new_tokens => {
                self.log.info(format!("cut after {tokens} tokens (--max-new-tokens)"));
            }
            FinishReason::Length => self.log.info(format!("cut after {tokens} tokens")),
            FinishReason::NotFinite => self.log.warn(format!(
                "at magnitude {} the model's logits are not finite, which ends the text: take a smaller one with /m",
                signed(text.magnitude)
            )),
        }
    }

    /// The prompt of some messages, and how it is continued.
    fn prompt(&self, messages: &[Message]) -> Result<(EncodedPrompt, GenerateOptions)> {
        let encoded = self.session.encoder.encode_prompt(messages)?;
        let (tokens, context) = (encoded.ids.len(), self.context);
        if tokens >= context {
            return Err(Error::Argument(format!(
                "with this question the conversation has {tokens} tokens, but there is room for {context}: /reset begins a new one"
            )));
        }
        let limit = self.speaker.limit(tokens, self.args.max_new_tokens.min(context - tokens));
        let options = self.args.sampling.choosing(greedy(limit, &self.session, self.chosen.positions()));
        Ok((encoded, options))
    }

    /// Answers the last question at several magnitudes, and shows the answers side by side.
    fn compare(&mut self, magnitudes: &MagnitudeChoice) -> anyhow::Result<()> {
        let refused = |problem: &str| Error::Argument(format!("/compare: {problem}"));
        let Some(vector) = &self.chosen.vector else {
            return Err(refused("there is no vector: choose one with /vector FILE").into());
        };
        let magnitudes = magnitudes.of(vector.metadata.calibration.as_ref(), vector.metadata.operation)?;
        let Some((question, messages)) = self.conversation.last_question() else {
            return Err(refused("no question was answered yet").into());
        };
        let (encoded, options) = self.prompt(&messages)?;
        let verdict = self.verdict(&encoded)?;
        let prompt = Prompt::from(&encoded).under(verdict);
        let request = |magnitude: &f32| (*magnitude, Request::new(prompt, &self.chosen.steering, *magnitude, &options));
        let requests: Vec<_> = magnitudes.iter().map(request).collect();
        let most = requests.len() * options.max_new_tokens;
        let mut progress = self.is_terminal.then(|| self.log.progress("comparing", most));
        let mut tokens = 0;
        let stoppable = self.stop.begin();
        let answered = self.speaker.answer(requests, &stoppable, &mut |_, _| {
            tokens += 1;
            progress.iter_mut().for_each(|progress| progress.set(tokens, || "tokens at most".to_owned()));
            Ok(())
        });
        drop(stoppable);
        progress.iter().for_each(terminal::Progress::finish);
        let (generations, is_stopped) = answered?;
        let mut texts = PromptTexts::new(question, self.chosen.steering.operation(), generations, &self.session.encoder)?;
        texts.when = verdict;
        texts.warn(self.session.placement.dtype == DType::F32, self.log);
        if self.args.model.json {
            terminal::json(&document(None, &texts.results()))?;
        } else {
            terminal::result(&texts.to_text())?;
        }
        if is_stopped { self.after_stop() } else { Ok(()) }
    }

    /// Writes the conversation, and says so.
    fn save(&self, path: &Path) -> Result<()> {
        check_writable(path)?;
        let text = self.conversation.to_json(&self.session.files.name, self.session.encoder.system());
        let replaced = if path.exists() { ", in place of the file that was there" } else { "" };
        write_atomic(path, &text.map_err(|error| Error::write(path, error.into()))?)?;
        let messages = self.conversation.len() + usize::from(self.session.encoder.system().is_some());
        let what = if messages == 1 { "message" } else { "messages" };
        self.log.info(format!("{messages} {what} written to {}{replaced}", path.display()));
        Ok(())
    }
}
