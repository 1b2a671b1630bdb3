//! Vectors that a vector is compared with at equal norm: a random direction at the same layers, or another vector.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::steering::dose::l2_norm;
use crate::steering::vector::SteeringVector;
use crate::{Error, Result};

/// Draws a uniform random direction (from Gaussian elements) at each layer of `vector`, with the same norm as `vector` has
/// there.
pub fn random(vector: &SteeringVector, seed: u64) -> SteeringVector {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = vector.clone();
    for v in drawn.layers.values_mut() {
        let length = l2_norm(v);
        v.iter_mut().for_each(|x| *x = StandardNormal.sample(&mut rng));
        let drawn = l2_norm(v);
        scale(v, length / drawn);
    }
    drawn
}

/// Scales `vector` so that its norm over all layers together is `norm`.
///
/// # Errors
/// The vector is zero.
pub fn at_norm(mut vector: SteeringVector, norm: f64) -> Result<SteeringVector> {
    let own = vector.norm();
    if own == 0.0 {
        return Err(Error::Argument(
            "the vector is zero and cannot be brought to the norm of the vector that is measured".into(),
        ));
    }
    vector.layers.values_mut().for_each(|v| scale(v, norm / own));
    Ok(vector)
}

fn scale(v: &mut [f32], factor: f64) {
    v.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
