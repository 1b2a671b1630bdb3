//! A few rows with a weight of f32 elements.

use pulp::Simd;

use super::FewRows;

/// Left rows whose sums are held in registers together.
const LEFT: usize = 4;

/// Weight rows whose sums are: with [`LEFT`] they fill the registers of AVX2.
const WEIGHTS: usize = 3;

/// Products of `M` rows with f32 rows of a weight.
pub struct DenseProducts<'a> {
    /// Left rows. `(M, K)`
    pub x: &'a [f32],
    /// Weight rows. `(n, K)`
    pub w: &'a [f32],
    /// Results. `(n, M)`
    pub out: &'a mut [f32],
}

impl FewRows for DenseProducts<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(self, simd: S) {
        let Self { x, w, out } = self;
        let k = x.len() / M;
        let mut weights = w.chunks_exact(WEIGHTS * k);
        let mut outs = out.chunks_exact_mut(WEIGHTS * M);
        for (w, out) in weights.by_ref().zip(outs.by_ref()) {
            of_weights::<S, M, WEIGHTS>(simd, x, w, out);
        }
        for (w, out) in weights.remainder().chunks_exact(k).zip(outs.into_remainder().chunks_exact_mut(M)) {
            of_weights::<S, M, 1>(simd, x, w, out);
        }
    }
}

/// `out (O, M)` = products of O weight rows with M left rows, [`LEFT`] at a time.
#[inline(always)]
fn of_weights<S: Simd, const M: usize, const O: usize>(simd: S, x: &[f32], w: &[f32], out: &mut [f32]) {
    let k = w.len() / O;
    let w: [&[f32]; O] = std::array::from_fn(|o| &w[o * k..(o + 1) * k]);
    for (group, x) in x.chunks(LEFT * k).enumerate() {
        let out = &mut out[group * LEFT..];
        match x.len() / k {
            LEFT => row_products::<S, LEFT, O>(simd, x, &w, out, M),
            3 => row_products::<S, 3, O>(simd, x, &w, out, M),
            2 => row_products::<S, 2, O>(simd, x, &w, out, M),
            _ => row_products::<S, 1, O>(simd, x, &w, out, M),
        }
    }
}

/// `out (O, R; rows stride apart)` = products of O weight rows with R left rows.
#[inline(always)]
fn row_products<S: Simd, const R: usize, const O: usize>(simd: S, x: &[f32], w: &[&[f32]; O], out: &mut [f32], stride: usize) {
    let k = w[0].len();
    let x: [_; R] = std::array::from_fn(|r| S::as_simd_f32s(&x[r * k..(r + 1) * k]));
    let w = w.map(|row| S::as_simd_f32s(row));
    let vectors = w[0].0.len();
    let mut sums = [[simd.splat_f32s(0.0); R]; O];
    let (x_vectors, w_vectors) = (x.map(|(vectors, _)| vectors), w.map(|(vectors, _)| vectors));
    for i in 0..vectors {
        let x = x_vectors.map(|x| x[i]);
        for o in 0..O {
            let weight = w_vectors[o][i];
            for r in 0..R {
                sums[o][r] = simd.mul_add_f32s(weight, x[r], sums[o][r]);
            }
        }
    }
    for o in 0..O {
        for r in 0..R {
            let tail: f32 = w[o].1.iter().zip(x[r].1).map(|(w, x)| w * x).sum();
            out[o * stride + r] = simd.reduce_sum_f32s(sums[o][r]) + tail;
        }
    }
}
