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
    /// A divisor for each frequency, as GGUF's `rope_freqs.weight` has it. `(D/2,)`
    Factors(Vec<f32>),
}

/// The model's rotary frequencies.
#[derive(Debug, Clone)]
pub struct Rope {
    head_dim: usize,
    theta: f64,
    scaling: RopeScaling,
    /// The frequency of each pair of dimensions, unless dynamic scaling is past its trained context. `(D/2,)`
    frequencies: Vec<f32>,
}

impl Rope {
    /// Frequencies θ^(−2i/D), scaled.
    pub fn new(head_dim: usize, theta: f64, scaling: &RopeScaling) -> Self {
        let plain = plain_frequencies(head_dim, theta);
        let frequencies = match scaling {
            RopeScaling::None | RopeScaling::Dynamic { .. } => plain,
            RopeScaling::Linear { factor } => plain.iter().map(|f| (*f as f64 / factor) as f32).collect(),
            RopeScaling::Factors(factors) => plain.iter().zip(factors).map(|(f, by)| f / by).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => plain
                .iter()
                .map(|f| {
                    llama3(*f as f64, *factor, *low_freq_factor, *high_freq_factor, *original_max_position_embeddings as f64)
                        as f32
                })
                .collect(),
        };
        Self { head_dim, theta, scaling: scaling.clone(), frequencies }
    }

    /// Whether the frequencies of a sequence of `length` tokens depend on its length.
    pub fn depends_on_length(&self, length: usize) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { original_max_position_embeddings: trained, .. } if length > trained)
    }

    /// Frequencies in a sequence of `length` tokens. Past the trained context, dynamic scaling stretches the base:
    /// θ·(factor·length/trained − (factor − 1))^(D/(D−2)), as transformers has it.
    fn frequencies(&self, length: usize) -> std::borrow::Cow<'_, [f32]> {
        match self.scaling {
            RopeScaling::Dynamic { factor, original_max_position_embeddings: trained } if length > trained => {
                let stretch = factor * length as f64 / trained as f64 - (factor - 1.0);
                let d = self.head_dim as f64;
                plain_frequencies(self.head_dim, self.theta * stretch.powf(d / (d - 2.0))).into()
            }
            _ => self.frequencies.as_slice().into(),
        }
    }
}

/// Frequencies θ^(−2i/D), as trained.
fn plain_frequencies(head_dim: usize, theta: f64) -> Vec<f32> {
    (0..head_dim).step_by(2).map(|i| theta.powf(-(i as f64) / head_dim as f64) as f32).collect()
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
        let half = rope.head_dim / 2;
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
