//! Angles of the rotary embedding: a frequency for each pair of dimensions of a head, scaled as [`RopeScaling`] says, and
//! tables of cosines and sines for the rows of a pass.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::Result;

/// Scaling of the rotary embedding's frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as trained.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor of every position.
        factor: f64,
    },
    /// NTK-aware scaling once a sequence is longer than the trained context.
    Dynamic {
        /// Growth of the context.
        factor: f64,
        /// Trained context in tokens.
        original_max_position_embeddings: usize,
    },
    /// Llama 3.1's scaling by wavelength.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Trained context in tokens.
        original_max_position_embeddings: usize,
    },
    /// A divisor for each frequency, as GGUF's `rope_freqs.weight` has it. `(R/2,)`
    Factors(Vec<f32>),
    /// YaRN (arXiv 2309.00071): low frequencies are divided, high ones kept, those between blended by a ramp over the
    /// dimensions; cosines and sines grow by a factor.
    Yarn {
        /// Divisor of low frequencies.
        factor: f64,
        /// Turns within the trained context from which on a frequency is kept.
        beta_fast: f64,
        /// Turns within the trained context up to which a frequency is divided.
        beta_slow: f64,
        /// Whether the ends of the ramp are whole dimensions.
        truncate: bool,
        /// Trained context in tokens.
        original_max_position_embeddings: usize,
        /// Factor of cosines and sines.
        attention_factor: f64,
    },
    /// LongRoPE (arXiv 2402.13753), as Phi-3 has it: a divisor for each frequency, others in sequences that are longer than the
    /// trained context; cosines and sines grow by a factor.
    LongRope {
        /// Divisors in sequences of up to the trained context. `(R/2,)`
        short_factor: Vec<f32>,
        /// Divisors in longer sequences. `(R/2,)`
        long_factor: Vec<f32>,
        /// Trained context in tokens.
        original_max_position_embeddings: usize,
        /// Factor of cosines and sines.
        attention_factor: f64,
    },
    /// No rotation at all.
    NoRotation,
}

/// The rotary embedding of some blocks of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeParameters {
    /// Base θ of the frequencies.
    pub theta: f64,
    /// Number of dimensions of a head that are rotated, `R`: even, at most the head's.
    pub rotary_dim: usize,
    /// Scaling of the frequencies.
    pub scaling: RopeScaling,
}

impl RopeParameters {
    /// Whole heads rotated by frequencies as trained.
    pub fn plain(theta: f64, head_dim: usize) -> Self {
        Self { theta, rotary_dim: head_dim, scaling: RopeScaling::None }
    }
}

/// The rotary frequencies of some blocks. A head's dimensions i and i + D/2 are a pair. Where only `R` of them are rotated, the
/// first R/2 pairs are those, and the frequencies of the others are 0.
#[derive(Debug, Clone)]
pub struct Rope {
    head_dim: usize,
    parameters: RopeParameters,
    /// The frequency of each pair of dimensions in a sequence within the trained context. `(D/2,)`
    frequencies: Vec<f32>,
}

impl Rope {
    /// Frequencies θ^(−2i/R), scaled.
    pub fn new(head_dim: usize, parameters: &RopeParameters) -> Self {
        let plain = plain_frequencies(parameters.rotary_dim, parameters.theta);
        let frequencies = match &parameters.scaling {
            RopeScaling::None | RopeScaling::Dynamic { .. } => plain,
            RopeScaling::NoRotation => Vec::new(),
            RopeScaling::Linear { factor } => plain.iter().map(|f| (*f as f64 / factor) as f32).collect(),
            RopeScaling::Factors(factors) => divided(&plain, factors),
            RopeScaling::LongRope { short_factor, .. } => divided(&plain, short_factor),
            RopeScaling::Yarn { .. } => yarn(parameters),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => plain
                .iter()
                .map(|f| {
                    llama3(*f as f64, *factor, *low_freq_factor, *high_freq_factor, *original_max_position_embeddings as f64)
                        as f32
                })
                .collect(),
        };
        Self { head_dim, parameters: parameters.clone(), frequencies: padded(frequencies, head_dim) }
    }

    /// Whether the frequencies of a sequence of `length` tokens depend on its length.
    pub(crate) fn depends_on_length(&self, length: usize) -> bool {
        match self.parameters.scaling {
            RopeScaling::Dynamic { original_max_position_embeddings: trained, .. }
            | RopeScaling::LongRope { original_max_position_embeddings: trained, .. } => length > trained,
            _ => false,
        }
    }

    /// Frequencies in a sequence of `length` tokens. Past the trained context, dynamic scaling stretches the base:
    /// θ·(factor·length/trained − (factor − 1))^(R/(R−2)), as transformers has it.
    fn frequencies(&self, length: usize) -> std::borrow::Cow<'_, [f32]> {
        let RopeParameters { theta, rotary_dim, scaling } = &self.parameters;
        match scaling {
            RopeScaling::Dynamic { factor, original_max_position_embeddings: trained } if length > *trained => {
                let stretch = factor * length as f64 / *trained as f64 - (factor - 1.0);
                let r = *rotary_dim as f64;
                padded(plain_frequencies(*rotary_dim, theta * stretch.powf(r / (r - 2.0))), self.head_dim).into()
            }
            RopeScaling::LongRope { long_factor, original_max_position_embeddings: trained, .. } if length > *trained => {
                padded(divided(&plain_frequencies(*rotary_dim, *theta), long_factor), self.head_dim).into()
            }
            _ => self.frequencies.as_slice().into(),
        }
    }

    /// Factor of cosines and sines.
    fn attention_factor(&self) -> f32 {
        match self.parameters.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor as f32
            }
            _ => 1.0,
        }
    }
}

/// Frequencies θ^(−2i/R), as trained.
fn plain_frequencies(rotary_dim: usize, theta: f64) -> Vec<f32> {
    (0..rotary_dim).step_by(2).map(|i| theta.powf(-(i as f64) / rotary_dim as f64) as f32).collect()
}

fn divided(frequencies: &[f32], factors: &[f32]) -> Vec<f32> {
    frequencies.iter().zip(factors).map(|(f, by)| f / by).collect()
}

/// Returns the frequencies, and 0 for the pairs of a head that are not rotated.
fn padded(mut frequencies: Vec<f32>, head_dim: usize) -> Vec<f32> {
    frequencies.resize(head_dim / 2, 0.0);
    frequencies
}

/// YaRN's frequencies, as transformers has them. Those of parameters with another scaling are the trained ones.
fn yarn(parameters: &RopeParameters) -> Vec<f32> {
    let RopeParameters { theta, rotary_dim, scaling } = parameters;
    let RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_max_position_embeddings: trained, .. } = scaling
    else {
        return plain_frequencies(*rotary_dim, *theta);
    };
    let dim = *rotary_dim as f64;
    // The dimension whose frequency turns so often within the trained context.
    let dimension = |turns: f64| dim * (*trained as f64 / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * theta.ln());
    let (low, high) = match truncate {
        true => (dimension(*beta_fast).floor(), dimension(*beta_slow).ceil()),
        false => (dimension(*beta_fast), dimension(*beta_slow)),
    };
    let (low, high) = (low.max(0.0), high.min(dim - 1.0));
    let width = if low == high { 0.001 } else { high - low };
    let blend = |i: usize| {
        let frequency = theta.powf(-2.0 * i as f64 / dim);
        let divided = ((i as f64 - low) / width).clamp(0.0, 1.0);
        (frequency / factor * divided + frequency * (1.0 - divided)) as f32
    };
    (0..rotary_dim / 2).map(blend).collect()
}

/// Llama 3.1's scaling: the frequencies of long wavelengths are divided by `factor`, those of short ones kept, and those
/// between blended linearly.
fn llama3(frequency: f64, factor: f64, low: f64, high: f64, context: f64) -> f64 {
    let wavelength = 2.0 * std::f64::consts::PI / frequency;
    if wavelength > context / low {
        return frequency / factor;
    }
    if wavelength < context / high {
        return frequency;
    }
    let smooth = (context / wavelength - low) / (high - low);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}

/// The rotations of one pass.
#[derive(Debug, Clone)]
pub struct Angles {
    /// The cosines of each row, then its sines. `(T, D)` f32
    pub(super) table: Tensor,
    /// Factor of the sines: −1 for the opposite rotations.
    pub(super) sign: f32,
}

impl Angles {
    /// Angles for tokens at `positions`, each in a sequence of `lengths` tokens (dynamic scaling depends on it).
    pub fn new(rope: &Rope, positions: &[usize], lengths: &[usize], device: &Device) -> Result<Self> {
        let (half, rotated, factor) = (rope.head_dim / 2, rope.parameters.rotary_dim / 2, rope.attention_factor());
        let (width, mut table) = (2 * half, Vec::with_capacity(positions.len() * 2 * half));
        // Sequences of a batch share positions, so sines are computed once: a GPU would wait for those of each row.
        let mut known = HashMap::new();
        for (row, (&position, &length)) in positions.iter().zip(lengths).enumerate() {
            let of_length = if rope.depends_on_length(length) { length } else { 0 };
            let same = *known.entry((position, of_length)).or_insert(row);
            if same < row {
                table.extend_from_within(same * width..(same + 1) * width);
                continue;
            }
            let frequencies = rope.frequencies(length);
            let angles = || frequencies.iter().map(|frequency| position as f32 * frequency);
            table.extend(angles().map(f32::cos));
            table.extend(angles().map(f32::sin));
            if factor != 1.0 {
                let row = table.len() - width;
                for at in [row, row + half] {
                    table[at..at + rotated].iter_mut().for_each(|x| *x *= factor);
                }
            }
        }
        Ok(Self { table: Tensor::from_vec(table, (positions.len(), width), device)?, sign: 1.0 })
    }

    /// The opposite rotations, through which the gradient passes.
    pub fn inverse(&self) -> Self {
        Self { table: self.table.clone(), sign: -self.sign }
    }

    /// Number of pairs of dimensions of a head, `D/2`.
    pub(super) fn pairs(&self) -> Result<usize> {
        Ok(self.table.dim(1)? / 2)
    }
}
