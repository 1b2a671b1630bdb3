//! A few rows with a weight of f32 elements.

use pulp::Simd;

use super::FewRows;

/// Products of `M` rows with f32 rows of a weight, two at a time.
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
        let rows: [&[f32]; M] = std::array::from_fn(|m| &x[m * k..(m + 1) * k]);
        let mut weights = w.chunks_exact(2 * k);
        let mut outs = out.chunks_exact_mut(2 * M);
        for (pair, out) in weights.by_ref().zip(outs.by_ref()) {
            let (w0, w1) = pair.split_at(k);
            row_products(simd, &rows, &[w0, w1], out);
        }
        if !weights.remainder().is_empty() {
            row_products(simd, &rows, &[weights.remainder()], outs.into_remainder());
        }
    }
}

/// `out (O, M)` = products of O weight rows with M left rows.
#[inline(always)]
fn row_products<S: Simd, const M: usize, const O: usize>(simd: S, x: &[&[f32]; M], w: &[&[f32]; O], out: &mut [f32]) {
    let x = x.map(|row| S::as_simd_f32s(row));
    let w = w.map(|row| S::as_simd_f32s(row));
    let mut sums = [[simd.splat_f32s(0.0); M]; O];
    let vectors = w[0].0.len();
    for i in 0..vectors {
        for o in 0..O {
            let weight = w[o].0[i];
            for m in 0..M {
                sums[o][m] = simd.mul_add_f32s(weight, x[m].0[i], sums[o][m]);
            }
        }
    }
    for o in 0..O {
        for m in 0..M {
            let tail: f32 = w[o].1.iter().zip(x[m].1).map(|(w, x)| w * x).sum();
            out[o * M + m] = simd.reduce_sum_f32s(sums[o][m]) + tail;
        }
    }
}
