//! The model that answers: requests go into one engine, which remembers the prompts of earlier turns, and their texts come back.

use bipo::Result;
use bipo::generate::{Engine, EngineLimits, Event, EventKind, Generation, Request, StreamId};
use bipo::model::Model;

use super::stop::Stoppable;

/// A model with its engine.
pub struct Speaker<'m> {
    model: &'m Model,
    limits: EngineLimits,
    engine: Engine<'m>,
}

impl<'m> Speaker<'m> {
    pub fn new(model: &'m Model, limits: EngineLimits) -> Result<Self> {
        Ok(Self { model, limits, engine: Engine::new(model, limits)? })
    }

    /// Tokens of an answer at most, behind a prompt of so many tokens, where `wanted` are wanted.
    pub fn limit(&self, prompt: usize, wanted: usize) -> usize {
        match self.model.keys_change_past() {
            Some(trained) if prompt < trained => wanted.min(trained - prompt),
            _ => wanted,
        }
    }

    /// Generates a text for each request with its magnitude, and tells of each token as it comes: the index of its request, and
    /// itself. → the texts, and whether they were stopped
    pub fn answer(
        &mut self,
        requests: Vec<(f32, Request)>,
        stoppable: &Stoppable,
        on_token: &mut dyn FnMut(usize, u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Vec<Generation>, bool)> {
        let mut texts: Vec<Generation> = requests.iter().map(|(magnitude, _)| Generation::unstarted(*magnitude)).collect();
        let mut open = Vec::new();
        let answered = self.submit(requests, &mut open).and_then(|()| self.run(&mut open, &mut texts, stoppable, on_token));
        let is_stopped = !open.is_empty();
        for (id, text) in open {
            texts[text].dose = self.engine.dose(id).unwrap_or(texts[text].dose);
            self.engine.cancel(id);
        }
        answered.map(|()| (texts, is_stopped))
    }

    fn submit(&mut self, requests: Vec<(f32, Request)>, open: &mut Vec<(StreamId, usize)>) -> anyhow::Result<()> {
        for (text, (_, request)) in requests.into_iter().enumerate() {
            open.push((self.engine.submit(request)?, text));
        }
        Ok(())
    }

    /// Takes steps until no text is open, or the user stops them.
    fn run(
        &mut self,
        open: &mut Vec<(StreamId, usize)>,
        texts: &mut [Generation],
        stoppable: &Stoppable,
        on_token: &mut dyn FnMut(usize, u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        while !open.is_empty() && !stoppable.is_stopped() {
            let events = match self.engine.step() {
                Ok(events) => events,
                Err(error) => {
                    // What it holds is not known any more.
                    self.engine = Engine::new(self.model, self.limits)?;
                    open.clear();
                    return Err(error.into());
                }
            };
            for Event { stream, kind } in events {
                let Some(at) = open.iter().position(|(id, _)| *id == stream) else { continue };
                let text = open[at].1;
                match &kind {
                    EventKind::Token { id, .. } => on_token(text, *id)?,
                    EventKind::Finished { .. } => drop(open.swap_remove(at)),
                }
                texts[text].take(kind);
            }
        }
        Ok(())
    }
}
