//! Which layer to steer: short runs at each candidate from one pass over the data, ranked by their loss on held-out pairs.
//! A run here is the run that `trainer` makes at that layer with the same settings, to the bit.

use std::collections::BTreeSet;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::activations::{Activations, CachePlan};
use super::config::TrainConfig;
use super::observer::Observer;
use super::records::Heldout;
use super::trainer::Trainer;
use crate::model::Model;
use crate::steering::dose::l2_norm;
use crate::steering::layers::Layers;
use crate::text::tokens::EncodedPair;
use crate::{Error, Result};

/// Checks a search before anything is computed, and says what the activations of all candidates take: `config.layers`, each
/// by itself.
///
/// # Errors
/// A candidate is not in the model, no token would be steered, or the cache fits neither memory nor disk.
pub fn plan<'m>(
    model: &'m Model,
    pairs: &[EncodedPair],
    heldout: &[EncodedPair],
    config: &TrainConfig,
) -> Result<CachePlan<'m>> {
    CachePlan::at_each(model, &[pairs, heldout], config.layers.clone(), (config.positions, config.sharing()), &config.cache)
}

/// Candidates with their activations.
#[derive(Debug)]
pub struct LayerSearch<'a> {
    model: &'a Model,
    config: &'a TrainConfig,
    /// Activations at each candidate: pairs to learn from, pairs held out.
    data: Vec<[Activations; 2]>,
}

/// What a short run at one layer came to.
#[derive(Debug, Clone, Serialize)]
pub struct LayerResult {
    /// Layer that was tried.
    pub layer: usize,
    /// Scores on the held-out pairs; none where no epoch had a finite loss on them.
    pub heldout: Option<Heldout>,
    /// Norm of the vector that was learned.
    pub vector_norm: f64,
    /// Number of steps that were done.
    pub steps: usize,
    /// Loss of the last step.
    pub final_loss: f64,
    /// Mean margin of the last step, times its direction.
    pub final_margin: f64,
    /// Wall time of steps and held-out scoring.
    pub seconds: f64,
    /// Why the run ended early.
    pub failure: Option<String>,
    /// The vector that was learned. `(H)`
    #[serde(skip)]
    pub v: Vec<f32>,
}

impl<'a> LayerSearch<'a> {
    /// Runs every pair once through the model, by what [`plan`] laid out for the same `config`.
    ///
    /// # Errors
    /// As [`CachePlan::compute`].
    pub fn new(
        model: &'a Model,
        plan: CachePlan,
        config: &'a TrainConfig,
        on_progress: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Self> {
        let both = |sets: Vec<Activations>| {
            let wrong = |_| Error::Argument("a search needs pairs to learn from and pairs held out".into());
            <[Activations; 2]>::try_from(sets).map_err(wrong)
        };
        let data = plan.compute_each(on_progress)?.into_iter().map(both).collect::<Result<_>>()?;
        Ok(Self { model, config, data })
    }

    /// The short run at each candidate, lowest first; `observer` sees all of their steps, `on_result` each end.
    ///
    /// # Errors
    /// As [`super::trainer::train`], or the user interrupted. A loss that is not finite, of a step or of the held-out pairs, is no
    /// error but a `failure`.
    pub fn run(&self, observer: &mut dyn Observer, on_result: &mut dyn FnMut(&LayerResult)) -> Result<Vec<LayerResult>> {
        let one = |data: &[Activations; 2]| {
            let result = self.one(data, observer)?;
            on_result(&result);
            Ok(result)
        };
        self.data.iter().map(one).collect()
    }

    fn one(&self, [pairs, heldout]: &[Activations; 2], observer: &mut dyn Observer) -> Result<LayerResult> {
        let started = Instant::now();
        let config = TrainConfig { layers: pairs.layer.into(), ..self.config.clone() };
        let outcome = Trainer::new(self.model, &config, pairs).run(Some(heldout), observer)?;
        if matches!(outcome.stopped, Some(Error::Interrupted)) {
            return Err(Error::Interrupted);
        }
        let unmeasured = outcome.heldout.is_none().then(|| HELDOUT_NOT_FINITE.to_owned());
        Ok(LayerResult {
            layer: pairs.layer,
            heldout: outcome.heldout,
            vector_norm: l2_norm(&outcome.v),
            steps: outcome.steps,
            final_loss: outcome.final_loss,
            final_margin: outcome.final_margin,
            seconds: started.elapsed().as_secs_f64(),
            failure: outcome.stopped.map(|error| error.to_string()).or(unmeasured),
            v: outcome.v,
        })
    }
}

/// Why a run that took all of its steps has no result.
const HELDOUT_NOT_FINITE: &str = "the loss of the held-out pairs is not finite";

/// Best first: by held-out loss, failed runs last.
pub fn rank(results: &mut [LayerResult]) {
    let loss = |result: &LayerResult| match (&result.failure, result.heldout) {
        (None, Some(heldout)) => heldout.loss,
        _ => f64::INFINITY,
    };
    results.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then(a.layer.cmp(&b.layer)));
}

/// The candidates where none are named: the middle half of a model.
///
/// # Errors
/// The model has no blocks.
pub fn middle_layers(num_blocks: usize) -> Result<Layers> {
    (num_blocks / 4..(3 * num_blocks).div_ceil(4)).collect::<Vec<_>>().try_into()
}

/// Holds a fifth of the pairs out, at least one, drawn with `seed`: those to learn from, those held out, both in their
/// order. Pairs of one data set row stay together: they share a question.
///
/// # Errors
/// All pairs are of one row.
pub fn hold_out(pairs: Vec<EncodedPair>, seed: u64) -> Result<(Vec<EncodedPair>, Vec<EncodedPair>)> {
    let mut rows: Vec<usize> = pairs.iter().map(|pair| pair.row).collect::<BTreeSet<_>>().into_iter().collect();
    if rows.len() < 2 {
        return Err(Error::Argument("one row cannot be split: give held-out pairs of their own".into()));
    }
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let held: BTreeSet<usize> = rows[..(rows.len() / 5).max(1)].iter().copied().collect();
    Ok(pairs.into_iter().partition(|pair| !held.contains(&pair.row)))
}

#[cfg(test)]
#[path = "layer_search_tests.rs"]
mod tests;
