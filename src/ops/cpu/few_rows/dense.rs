//! A few rows with a weight of f32 elements, as it lies in memory: nothing is packed.

use pulp::{Arch, Simd, WithSimd};

/// Left rows and weight rows whose sums are held in registers together: with these numbers they fill those of AVX2.
const LEFT: usize = 4;
const WEIGHTS: usize = 3;

/// Products of any number of rows with f32 rows of a weight, each of which is read from memory once.
pub struct DenseProducts<'a> {
    /// Left rows. `(M, K)`
    pub x: &'a [f32],
    /// Weight rows. `(n, K)`
    pub w: &'a [f32],
    /// Length of a row, K.
    pub k: usize,
    /// Results. `(M, n)`
    pub out: &'a mut [f32],
}

impl DenseProducts<'_> {
    /// Computes them with the widest vector instructions of the machine.
    pub fn compute(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for DenseProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, w, k, out } = self;
        let n = w.len() / k;
        for (first, w) in (0..n).step_by(WEIGHTS).zip(w.chunks(WEIGHTS * k)) {
            // Where fewer are left, the last one stands for those that are missing.
            let last = w.len() / k - 1;
            let w: [&[f32]; WEIGHTS] = std::array::from_fn(|o| &w[o.min(last) * k..(o.min(last) + 1) * k]);
            for (x, out) in x.chunks(LEFT * k).zip(out.chunks_mut(LEFT * n)) {
                let write = |row: usize, products: [f32; WEIGHTS]| {
                    out[row * n + first..][..=last].copy_from_slice(&products[..=last]);
                };
                match x.len() / k {
                    LEFT => row_products::<S, LEFT>(simd, x, w, write),
                    3 => row_products::<S, 3>(simd, x, w, write),
                    2 => row_products::<S, 2>(simd, x, w, write),
                    _ => row_products::<S, 1>(simd, x, w, write),
                }
            }
        }
    }
}

/// Products of each of R left rows with the weight rows. An array of sums for each weight row stays in registers; one of
/// arrays would not.
#[inline(always)]
fn row_products<S: Simd, const R: usize>(simd: S, x: &[f32], w: [&[f32]; WEIGHTS], mut write: impl FnMut(usize, [f32; WEIGHTS])) {
    let k = w[0].len();
    let x: [_; R] = std::array::from_fn(|r| S::as_simd_f32s(&x[r * k..(r + 1) * k]));
    let w = w.map(S::as_simd_f32s);
    let vectors = w[0].0.len();
    let (x_vectors, [w0, w1, w2]) = (x.map(|(x, _)| &x[..vectors]), w.map(|(w, _)| &w[..vectors]));
    let [mut sums0, mut sums1, mut sums2] = [[simd.splat_f32s(0.0); R]; WEIGHTS];
    for i in 0..vectors {
        let (w0, w1, w2) = (w0[i], w1[i], w2[i]);
        for r in 0..R {
            let x = x_vectors[r][i];
            sums0[r] = simd.mul_add_f32s(w0, x, sums0[r]);
            sums1[r] = simd.mul_add_f32s(w1, x, sums1[r]);
            sums2[r] = simd.mul_add_f32s(w2, x, sums2[r]);
        }
    }
    for r in 0..R {
        let tail = |(_, w): (_, &[f32])| w.iter().zip(x[r].1).map(|(w, x)| w * x).sum::<f32>();
        let [tail0, tail1, tail2] = w.map(tail);
        let sums = [sums0[r], sums1[r], sums2[r]].map(|sum| simd.reduce_sum_f32s(sum));
        write(r, [sums[0] + tail0, sums[1] + tail1, sums[2] + tail2]);
    }
}
