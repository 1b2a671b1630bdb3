//! Where a condition is asked in an evaluation: which of its prompts are steered, and the share of them as a measure.

use std::collections::{HashMap, HashSet};

use super::bootstrap::Estimate;
use super::{Measure, MeasureUnit};
use crate::Result;
use crate::model::Model;
use crate::steering::condition::{Verdict, When};
use crate::text::tokens::EncodedPair;
use crate::train::collective::Collective;

/// A condition, and what it said of prompts so far: each is asked about once, whatever it occurs in.
pub(super) struct Firing<'a> {
    model: &'a Model,
    when: Option<&'a When>,
    verdicts: HashMap<Vec<u32>, Verdict>,
    collective: &'a Collective,
}

impl<'a> Firing<'a> {
    /// Without a condition every prompt is steered.
    pub fn new(model: &'a Model, when: Option<&'a When>, collective: &'a Collective) -> Self {
        Self { model, when, verdicts: HashMap::new(), collective }
    }

    /// Whether it fires on each prompt; none without a condition. `on_pass` is called before each pass of the model.
    pub fn ask<'p>(
        &mut self,
        prompts: impl IntoIterator<Item = &'p [u32]>,
        on_pass: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Vec<bool>>> {
        let Some(when) = self.when else { return Ok(None) };
        let prompts: Vec<&[u32]> = prompts.into_iter().collect();
        let mut seen = HashSet::new();
        let new: Vec<&[u32]> =
            prompts.iter().copied().filter(|prompt| !self.verdicts.contains_key(*prompt) && seen.insert(*prompt)).collect();
        let verdict = |prompt: &[u32]| -> Result<[f64; 2]> {
            on_pass()?;
            let Verdict { score, fired } = when.ask(self.model, prompt)?;
            Ok([score, f64::from(u8::from(fired))])
        };
        let own = self.collective.share().of(&new).into_iter().map(verdict).collect::<Result<_>>()?;
        for (prompt, [score, fired]) in new.iter().zip(self.collective.gather(new.len(), own)?) {
            self.verdicts.insert(prompt.to_vec(), Verdict { score, fired: fired != 0.0 });
        }
        Ok(Some(prompts.iter().map(|prompt| self.verdicts.get(*prompt).is_some_and(|verdict| verdict.fired)).collect()))
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
    Some(Measure { name: name.to_owned(), unit: MeasureUnit::Share, estimate })
}
