//! Encodes prompts and preference pairs as the reference trainer does: prompt and response tokenised together and split where
//! the prompt's own tokens end, BOS in front once, the end of the turn behind once, longer pairs truncated.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{DecodeStream, Tokenizer};

use super::decoded::{failed, text_of};
use super::{EncodedPair, EncodedPrompt, EncodedResponse, PromptSpans};
use crate::data::Message;
use crate::data::Pair;
use crate::text::chat::{AssistantTurn, ChatTemplate, Trim};
use crate::text::ends::Ends;
use crate::text::spans::Spans;
use crate::{Error, Result};

/// What stands between the prompt and the response's own text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ResponsePrefix {
    /// What the chat template writes there, and behind the response what the template writes to end the turn. Where the
    /// template gives no consistent answer, a space, unless the rendered prompt ends in white space.
    #[default]
    Auto,
    /// Always this text. The reference has a space, also behind a template that ends in a line feed.
    Text(String),
}

/// How a model's text becomes ids, beside its tokenizer and template.
#[derive(Debug, Clone)]
pub struct TextOptions {
    /// The token that begins a sequence, which a template may write.
    pub bos: Option<u32>,
    /// Whether it is put in front of every prompt that does not begin with it; `added_bos` tells a tokenizer's own.
    pub adds_bos: bool,
    /// Ids that end an answer. The first closes every response in training; generation stops at any.
    pub eos: Vec<u32>,
    /// What stands between prompt and response.
    pub response_prefix: ResponsePrefix,
    /// Put in front of conversations that have no system prompt; an empty text is none.
    pub system: Option<String>,
    /// Whether a system prompt goes into the first user turn, before the user's text and an empty line.
    pub system_in_user: bool,
    /// Number of ids that the model has; the tokenizer may give a token a larger one.
    pub vocab_size: usize,
}

/// A model's way from text to ids and back.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    options: TextOptions,
    spans: Option<Spans>,
    ends: Option<Ends>,
    /// What every prompt begins with, once it was looked for.
    beginning: OnceLock<Vec<u32>>,
    eos: u32,
    turn: Option<Turn>,
}

/// How the template writes a response.
#[derive(Debug)]
struct Turn {
    before: String,
    trim: Trim,
    /// White space before the token that ends the turn.
    lead: String,
    end: u32,
}

/// A rendered prompt, and the bytes of it that are in the encoder's spans.
struct PromptText {
    text: String,
    spans: Vec<Range<usize>>,
}

impl TextEncoder {
    /// An encoder from its parts. The tokenizer's own truncation and padding are turned off. The token by which the template
    /// ends the assistant's turn ends an answer, too.
    pub fn new(mut tokenizer: Tokenizer, template: ChatTemplate, mut options: TextOptions) -> Result<Self> {
        let Some(&eos) = options.eos.first() else {
            return Err(Error::Argument("the tokenizer names no end-of-sequence token: responses could not be closed".into()));
        };
        for &id in options.eos.iter().chain(&options.bos) {
            if tokenizer.id_to_token(id).is_none() {
                return Err(Error::Argument(format!("special token {id} is not in the tokenizer's vocabulary")));
            }
            check_id(&tokenizer, id, options.vocab_size)?;
        }
        tokenizer.with_truncation(None).map_err(failed)?;
        tokenizer.with_padding(None);
        let end = template.end_of_turn().and_then(|after| end_of_turn(&tokenizer, &after)).map(|(_, id)| id);
        options.eos.extend(end.filter(|id| !options.eos.contains(id) && (*id as usize) < options.vocab_size));
        let turn = match options.response_prefix {
            ResponsePrefix::Auto => Turn::of(&tokenizer, &template, &options),
            ResponsePrefix::Text(_) => None,
        };
        Ok(Self { tokenizer, template, options, spans: None, ends: None, beginning: OnceLock::new(), eos, turn })
    }

    /// Ids that end an answer, in the order of the options.
    pub(crate) fn eos_ids(&self) -> &[u32] {
        &self.options.eos
    }

    /// Whether responses have the form that the template gives them.
    pub(crate) fn follows_template(&self) -> bool {
        self.turn.is_some()
    }

    /// Tells from now on which tokens are in `spans` and at `ends` of the prompt. A token that holds a byte of a content is in
    /// it, even where it begins in the template's text before.
    pub fn tell_places(&mut self, spans: Option<Spans>, ends: Option<Ends>) {
        (self.spans, self.ends) = (spans, ends);
        if spans.is_some() {
            // It would add no token here, but cuts white space off the tokens' offsets.
            self.tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        }
    }

    /// Puts this system prompt in front of conversations that have none, from now on; an empty text is none. → the one before
    pub fn set_system(&mut self, system: Option<String>) -> Option<String> {
        self.beginning = OnceLock::new();
        std::mem::replace(&mut self.options.system, system)
    }

    /// The system prompt that is put in front.
    pub fn system(&self) -> Option<&str> {
        self.options.system.as_deref().filter(|system| !system.is_empty())
    }

    /// Ids of a text as it is: no template, nothing added.
    ///
    /// # Errors
    /// The tokenizer fails, or gives an id that the model does not have.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.ids_of(text)
    }

    /// The rendered conversation, up to the place where the answer begins.
    ///
    /// # Errors
    /// The template refuses the conversation or fails, the tokenizer does, or no token comes out.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<EncodedPrompt> {
        let prompt = self.rendered(messages)?;
        let (mut ids, mut in_spans) = self.ids_and_spans(&prompt.text, &prompt.spans)?;
        self.put_bos_in_front(&mut ids, &mut in_spans);
        if ids.is_empty() {
            return Err(Error::Argument("the prompt is empty: expected at least one token".into()));
        }
        let generated = self.spans.is_none_or(Spans::includes_response) && self.ends.is_none_or(|ends| ends.response);
        let in_places = self.at_ends(&ids, ids.len(), in_spans)?;
        Ok(EncodedPrompt { ids, spans: in_places.map(|prompt| PromptSpans { prompt, generated }) })
    }

    /// Returns which tokens are in the spans, as far as they are told, and at the ends of the prompt, whose response begins at
    /// `start`.
    fn at_ends(&self, ids: &[u32], start: usize, in_spans: Option<Vec<bool>>) -> Result<Option<Vec<bool>>> {
        let Some(ends) = self.ends else { return Ok(in_spans) };
        let beginning = self.beginning()?;
        let own = ids[..start].iter().zip(beginning).take_while(|(id, common)| id == common).count()..start;
        let in_spans = |token: usize| in_spans.as_ref().is_none_or(|in_spans| in_spans[token]);
        Ok(Some((0..ids.len()).map(|token| ends.include(token, &own) && in_spans(token)).collect()))
    }

    /// The tokens that every prompt of the template and the encoder's system prompt begins with: those of two questions that have
    /// nothing in common.
    fn beginning(&self) -> Result<&[u32]> {
        if let Some(beginning) = self.beginning.get() {
            return Ok(beginning);
        }
        let ids = |question: &str| -> Result<Vec<u32>> {
            let mut ids = self.ids_of(&self.prompt_text(&[Message::new("user", question)])?)?;
            self.put_bos_in_front(&mut ids, &mut None);
            Ok(ids)
        };
        let (mut beginning, other) = (ids("a")?, ids("7")?);
        beginning.truncate(beginning.iter().zip(&other).take_while(|(a, b)| a == b).count());
        Ok(self.beginning.get_or_init(|| beginning))
    }

    /// Both responses of a pair behind their prompt, and whether either was truncated to `max_length` tokens.
    ///
    /// A response loses its end. Where prompt and one response token do not fit, the prompt loses its beginning (BOS stays),
    /// the same number of tokens before both responses.
    ///
    /// # Errors
    /// As [`TextEncoder::encode_prompt`], or `max_length` is below 2. The message names the row of the pair.
    pub fn encode_pair(&self, pair: &Pair, max_length: usize) -> Result<(EncodedPair, bool)> {
        if max_length < 2 {
            return Err(Error::Argument(format!(
                "max length {max_length} is too short: a prompt token and a response token need 2"
            )));
        }
        let in_row = |error| match error {
            Error::Argument(problem) => Error::Argument(format!("row {}: {problem}", pair.row)),
            other => other,
        };
        let prompt = self.rendered(&pair.prompt).map_err(in_row)?;
        let mut chosen = self.encode_response(&prompt, &pair.chosen).map_err(in_row)?;
        let mut rejected = self.encode_response(&prompt, &pair.rejected).map_err(in_row)?;

        let excess = (chosen.start.max(rejected.start) + 1).saturating_sub(max_length);
        let truncated = [&mut chosen, &mut rejected].map(|response| self.truncate(response, excess, max_length));
        Ok((EncodedPair { row: pair.row, chosen, rejected }, truncated.contains(&true)))
    }

    /// Takes the end of the turn off a response: its last token, and the white space that the template writes before it.
    pub(crate) fn drop_end(&self, response: &mut EncodedResponse) -> Result<()> {
        let mut kept = response.ids.len() - 1;
        if kept <= response.start || !self.is_eos(response.ids[kept]) {
            return Ok(());
        }
        if let Some(turn) = self.turn.as_ref().filter(|turn| !turn.lead.is_empty()) {
            let least = kept.saturating_sub(self.ids_of(&turn.lead)?.len()).max(response.start + 1);
            while kept > least && self.decode(&response.ids[kept - 1..kept], false)?.trim().is_empty() {
                kept -= 1;
            }
        }
        response.ids.truncate(kept);
        response.in_spans.iter_mut().for_each(|in_spans| in_spans.truncate(kept));
        Ok(())
    }

    /// Text of generated ids without special tokens. Ids that end inside a character, as a limit on tokens leaves them, give the text
    /// before it.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn text_of(&self, ids: &[u32]) -> Result<String> {
        text_of(&self.tokenizer, ids)
    }

    /// Text of ids, as far as they are characters; `skip_special` leaves out EOS and the like.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.tokenizer.decode(ids, skip_special).map_err(failed)
    }

    /// Text of ids that come one after the other, without special tokens.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(&self.tokenizer)
    }

    /// Whether generation stops at this id.
    pub fn is_eos(&self, id: u32) -> bool {
        self.options.eos.contains(&id)
    }

    /// The tokenizer that encodes.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template that renders prompts.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The rendered conversation, the system prompt in front where it has none of its own.
    pub fn prompt_text(&self, messages: &[Message]) -> Result<String> {
        self.template.render(&self.conversation(messages))
    }

    /// Whether the prompt of a conversation ends inside a thought, which an answer then goes on with.
    ///
    /// # Errors
    /// The template refuses the conversation.
    pub fn opens_thought(&self, messages: &[Message]) -> Result<bool> {
        self.template.opens_thought(&self.conversation(messages))
    }

    /// Whether the template writes nothing of the conversation's system prompt, or of the one that is put in front.
    ///
    /// # Errors
    /// The template refuses the conversation.
    pub fn drops_system(&self, messages: &[Message]) -> Result<bool> {
        self.template.drops_system(&self.conversation(messages))
    }

    fn rendered(&self, messages: &[Message]) -> Result<PromptText> {
        let messages = self.conversation(messages);
        let Some(spans) = self.spans else {
            return Ok(PromptText { text: self.template.render(&messages)?, spans: Vec::new() });
        };
        let role = spans.to_string();
        let (text, contents) = self.template.render_with_contents(&messages, &role)?;
        let of_role = contents.into_iter().filter(|content| messages[content.message].role == role);
        Ok(PromptText { text, spans: of_role.map(|content| content.bytes).collect() })
    }

    fn with_system<'a>(&self, messages: &'a [Message]) -> Cow<'a, [Message]> {
        let has_system = messages.first().is_some_and(Message::is_system);
        match self.system() {
            Some(system) if !has_system => {
                let system = std::iter::once(Message::new("system", system));
                Cow::Owned(system.chain(messages.iter().cloned()).collect::<Vec<_>>())
            }
            _ => Cow::Borrowed(messages),
        }
    }

    /// The messages as the template gets them.
    fn conversation<'a>(&self, messages: &'a [Message]) -> Cow<'a, [Message]> {
        let messages = self.with_system(messages);
        match &*messages {
            [system, rest @ ..] if self.options.system_in_user && system.is_system() => {
                Cow::Owned(in_first_user_turn(&system.content, rest))
            }
            _ => messages,
        }
    }

    fn encode_response(&self, prompt: &PromptText, response: &str) -> Result<EncodedResponse> {
        let PromptText { text, spans } = prompt;
        let (prefix, words) = match (&self.options.response_prefix, &self.turn) {
            (ResponsePrefix::Text(prefix), _) => (prefix.as_str(), response),
            (ResponsePrefix::Auto, Some(turn)) => (turn.before.as_str(), turn.trim.of(response)),
            (ResponsePrefix::Auto, None) if text.ends_with(char::is_whitespace) => ("", response),
            (ResponsePrefix::Auto, None) => (" ", response),
        };
        // A single space in front of a response only parts it from the prompt, which another one does here.
        let is_parted = self.options.response_prefix == ResponsePrefix::Auto && (prefix.ends_with(' ') || text.ends_with(' '));
        let words = words.strip_prefix(' ').filter(|bare| is_parted && !bare.starts_with(char::is_whitespace)).unwrap_or(words);
        let prompt_ids = self.ids_of(text)?;
        let written = format!("{text}{prefix}{words}");
        let (mut ids, mut in_spans) = self.ids_and_spans(&written, spans)?;
        let is_open = ids.last().is_none_or(|id| !self.is_eos(*id));
        if let Some(turn) = self.turn.as_ref().filter(|turn| is_open && !turn.lead.is_empty()) {
            (ids, in_spans) = self.ids_and_spans(&format!("{written}{}", turn.lead), spans)?;
        }
        // A merge across the border belongs to the response: the rule of the reference, and of trl.
        let mut start = prompt_ids.len();
        if !ids.starts_with(&prompt_ids) {
            start = start.saturating_sub(1);
        }
        start += usize::from(self.put_bos_in_front(&mut ids, &mut in_spans));
        if is_open {
            ids.push(self.turn.as_ref().map_or(self.eos, |turn| turn.end));
        }
        start = start.min(ids.len() - 1);
        if let Some((spans, in_spans)) = self.spans.zip(in_spans.as_mut()) {
            in_spans.truncate(start);
            in_spans.resize(ids.len(), spans.includes_response());
        }
        if start == 0 {
            return Err(Error::Argument(
                "the prompt has no token of its own before the response: expected at least one".into(),
            ));
        }
        let in_spans = self.at_ends(&ids, start, in_spans)?;
        Ok(EncodedResponse { ids, start, in_spans })
    }

    /// Whether anything was cut: `excess` tokens of the prompt's beginning, then what is beyond `max_length`.
    fn truncate(&self, response: &mut EncodedResponse, excess: usize, max_length: usize) -> bool {
        let before = response.ids.len();
        if excess > 0 {
            let keep = usize::from(self.options.bos.is_some_and(|bos| response.ids.first() == Some(&bos)));
            let cut = excess.min(response.start - 1);
            let from = keep.min(response.start - cut);
            response.ids.drain(from..from + cut);
            response.in_spans.iter_mut().for_each(|in_spans| drop(in_spans.drain(from..from + cut)));
            response.start -= cut;
        }
        response.ids.truncate(max_length);
        response.in_spans.iter_mut().for_each(|in_spans| in_spans.truncate(max_length));
        response.ids.len() < before
    }

    fn ids_of(&self, text: &str) -> Result<Vec<u32>> {
        self.known(self.tokenizer.encode_fast(text, false).map_err(failed)?.get_ids())
    }

    /// Ids of `text`, and whether each is in the encoder's spans, of which these are the bytes.
    fn ids_and_spans(&self, text: &str, spans: &[Range<usize>]) -> Result<(Vec<u32>, Option<Vec<bool>>)> {
        if self.spans.is_none() {
            return Ok((self.ids_of(text)?, None));
        }
        let encoding = self.tokenizer.encode(text, false).map_err(failed)?;
        let in_spans = |(start, end): &(usize, usize)| spans.iter().any(|span| *start < span.end && span.start < *end);
        Ok((self.known(encoding.get_ids())?, Some(encoding.get_offsets().iter().map(in_spans).collect())))
    }

    /// Ids that the model has.
    fn known(&self, ids: &[u32]) -> Result<Vec<u32>> {
        ids.iter().try_for_each(|id| check_id(&self.tokenizer, *id, self.options.vocab_size))?;
        Ok(ids.to_vec())
    }

    /// Whether BOS was not there yet.
    fn put_bos_in_front(&self, ids: &mut Vec<u32>, in_spans: &mut Option<Vec<bool>>) -> bool {
        match self.options.bos {
            Some(bos) if self.options.adds_bos && ids.first() != Some(&bos) => {
                ids.insert(0, bos);
                in_spans.iter_mut().for_each(|in_spans| in_spans.insert(0, false));
                true
            }
            _ => false,
        }
    }
}

impl Turn {
    /// How the template writes a response, where it is the same in every conversation and ends in a token of its own.
    fn of(tokenizer: &Tokenizer, template: &ChatTemplate, options: &TextOptions) -> Option<Self> {
        let AssistantTurn { before, after, trim } = template.assistant_turn()?;
        let (lead, end) = end_of_turn(tokenizer, &after)?;
        options.eos.contains(&end).then_some(Self { before, trim, lead, end })
    }
}

/// The token that begins what a template writes behind the assistant's words, with the white space before it. It is one that
/// the tokenizer matches whole.
fn end_of_turn(tokenizer: &Tokenizer, after: &str) -> Option<(String, u32)> {
    let rest = after.trim_start();
    let added = tokenizer.get_added_tokens_decoder();
    let fitting = added.iter().filter(|(_, token)| !token.content.is_empty() && rest.starts_with(&token.content));
    let (id, _) = fitting.max_by_key(|(_, token)| token.content.len())?;
    Some((after[..after.len() - rest.len()].to_owned(), *id))
}

/// The conversation with the system prompt in front of the first user's text, an empty line between them.
fn in_first_user_turn(system: &str, rest: &[Message]) -> Vec<Message> {
    let mut messages = rest.to_vec();
    match messages.iter_mut().find(|message| message.role == "user") {
        Some(user) => user.content = format!("{system}\n\n{}", user.content),
        None => messages.insert(0, Message::new("user", system)),
    }
    messages
}

/// The text of each new id, held back until its last character is complete.
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    decoder: DecodeStream<'a, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>,
    /// Ids whose text has not come.
    held: Vec<u32>,
}

impl<'a> TokenStream<'a> {
    /// A text without an id yet; special tokens are no part of it.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, decoder: tokenizer.decode_stream(true), held: Vec::new() }
    }

    /// The text that `id` completes; none while a character is incomplete.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn push(&mut self, id: u32) -> Result<Option<String>> {
        self.held.push(id);
        let text = self.decoder.step(id).map_err(failed)?;
        if text.is_some() {
            self.held.clear();
        }
        Ok(text)
    }

    /// The text that is left at the end: that of the ids whose characters were not complete. All pieces together are
    /// [`TextEncoder::text_of`] of the ids, unless bytes that are no character follow the bytes of one, which a tokenizer with
    /// single bytes decodes together.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn finish(&mut self) -> Result<String> {
        text_of(self.tokenizer, &std::mem::take(&mut self.held))
    }
}

/// The BOS token that a tokenizer puts in front of a text by itself, as those of Llama and Mistral do.
pub fn added_bos(tokenizer: &Tokenizer) -> Result<Option<u32>> {
    let with = tokenizer.encode_fast("a", true).map_err(failed)?;
    let without = tokenizer.encode_fast("a", false).map_err(failed)?;
    let (first, plain) = (with.get_ids().first(), without.get_ids().first());
    Ok(first.copied().filter(|_| first != plain))
}

/// Refuses an id for which the model has no embedding and no logit.
fn check_id(tokenizer: &Tokenizer, id: u32, vocab_size: usize) -> Result<()> {
    if (id as usize) < vocab_size {
        return Ok(());
    }
    let token = tokenizer.id_to_token(id).unwrap_or_default();
    Err(Error::argument(format!(
        "the tokenizer gives the token {token:?} the id {id}, but the model has {vocab_size} ids: is the tokenizer another \
         model's?"
    )))
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
