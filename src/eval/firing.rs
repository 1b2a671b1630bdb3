//! Where a condition is asked in an evaluation: which of its prompts are steered, and the share of them as a measure.

use std::collections::HashMap;

use super::bootstrap::Estimate;
use super::{Measure, Unit};
use crate::Result;
use crate::model::Model;
use crate::steering::condition::{Verdict, When};
use crate::text::tokens::EncodedPair;

/// A condition, and what it said of prompts so far: each is asked about once, whatever it occurs in.
pub(super) struct Firing<'a> {
    model: &'a Model,
    when: Option<&'a When>,
    verdicts: HashMap<Vec<u32>, Verdict>,
}

impl<'a> Firing<'a> {
    /// Without a condition every prompt is steered.
    pub fn new(model: &'a Model, when: Option<&'a When>) -> Self {
        Self { model, when, verdicts: HashMap::new() }
    }

    /// Whether it fires on each prompt; none without a condition. `on_pass` is called before each pass of the model.
    pub fn ask<'p>(
        &mut self,
        prompts: impl IntoIterator<Item = &'p [u32]>,
        on_pass: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Vec<bool>>> {
        let Some(when) = self.when else { return Ok(None) };
        let fires = |prompt: &[u32]| -> Result<bool> {
            if let Some(verdict) = self.verdicts.get(prompt) {
                return Ok(verdict.fired);
            }
            on_pass()?;
            let verdict = when.ask(self.model, prompt)?;
            self.verdicts.insert(prompt.to_vec(), verdict);
            Ok(verdict.fired)
        };
        prompts.into_iter().map(fires).collect::<Result<_>>().map(Some)
    }

    /// What it said of a prompt that it was asked about.
    pub fn verdict(&self, prompt: &[u32]) -> Option<Verdict> {
        self.verdicts.get(prompt).copied()
    }
}

/// The prompts of pairs.
pub(super) fn prompts(pairs: &[EncodedPair]) -> impl Iterator<Item = &[u32]> {
    pairs.iter().map(|pair| &pair.chosen.ids[..pair.chosen.start])
}

/// The share of prompts that fired.
pub(super) fn share(name: &str, fired: &[bool]) -> Option<Measure> {
    let estimate = Estimate::of_share(fired.iter().copied())?;
    Some(Measure { name: name.to_owned(), unit: Unit::Share, estimate })
}
