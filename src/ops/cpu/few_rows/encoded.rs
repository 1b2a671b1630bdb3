//! A few rows with encoded rows of a weight, which are decoded exactly, a piece at a time into the first-level cache, and
//! multiplied in f32: activations are never quantised. Knows neither where the rows lie nor any thread.

use pulp::Simd;

use crate::ops::cpu::encoding::Encoding;

/// Elements decoded at a time, a multiple of every block and vector: two such pieces, and those of the left rows, stay in
/// the first-level cache.
const PIECE: usize = 512;

/// Pairs of weight rows that share a piece of the left rows before the next piece is read.
const PAIRS: usize = 4;

/// Products of `M` rows with encoded rows of a weight, each of which is decoded once.
///
/// Panics when a weight row is not K elements long.
pub struct EncodedProducts<'a, F> {
    /// How the weight is encoded.
    pub encoding: Encoding,
    /// Left rows. `(M, K)`
    pub x: &'a [f32],
    /// The bytes of a weight row.
    pub weight_row: F,
    /// Results. `(N, M)`
    pub out: &'a mut [f32],
}

impl<'w, F: Fn(usize) -> &'w [u8]> EncodedProducts<'_, F> {
    /// Computes the products.
    #[inline(always)]
    pub fn run<S: Simd, const M: usize>(self, simd: S) {
        let Self { encoding, x, weight_row, out } = self;
        assert!(x.len().is_multiple_of(M) && out.len().is_multiple_of(M));
        let k = x.len() / M;
        let packed = Lines::<M>::pack(x, S::F32_LANES);
        let mut buffers = [EncodedPiece([0.0; PIECE]), EncodedPiece([0.0; PIECE])];
        for (group, out) in out.chunks_mut(2 * PAIRS * M).enumerate() {
            let rows = out.len() / M;
            // The second of the last pair repeats its first where there is none.
            let w: [&[u8]; 2 * PAIRS] = std::array::from_fn(|i| weight_row(2 * PAIRS * group + i.min(rows - 1)));
            assert!(w.iter().all(|w| encoding.row_bytes(k) == Some(w.len())), "rows of {k} elements in {encoding:?}");
            let mut sums = [[[simd.splat_f32s(0.0); M]; 2]; PAIRS];
            for start in (0..k).step_by(PIECE) {
                let len = PIECE.min(k - start);
                let span = encoding.span(start, len);
                let vectors = len.div_ceil(S::F32_LANES);
                let x = &S::as_simd_f32s(packed.lines()).0.as_chunks::<M>().0[start / S::F32_LANES..][..vectors];
                for (pair, sums) in w.as_chunks::<2>().0.iter().zip(&mut sums).take(rows.div_ceil(2)) {
                    for (EncodedPiece(buffer), w) in buffers.iter_mut().zip(pair) {
                        encoding.decode(&w[span.clone()], &mut buffer[..len]);
                        buffer[len..vectors * S::F32_LANES].fill(0.0);
                    }
                    add_products(simd, sums, x, buffers.each_ref().map(|EncodedPiece(buffer)| S::as_simd_f32s(buffer).0));
                }
            }
            let sums = sums.as_flattened().iter();
            for (out, sums) in out.chunks_exact_mut(M).zip(sums) {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = simd.reduce_sum_f32s(*sum);
                }
            }
        }
    }
}

/// `sums (2, M)` += products of two weight rows with M left rows, vector by vector.
#[inline(always)]
fn add_products<S: Simd, const M: usize>(simd: S, sums: &mut [[S::f32s; M]; 2], x: &[[S::f32s; M]], [w0, w1]: [&[S::f32s]; 2]) {
    let [mut sums0, mut sums1] = *sums;
    for ((x, w0), w1) in x.iter().zip(w0).zip(w1) {
        for m in 0..M {
            sums0[m] = simd.mul_add_f32s(*w0, x[m], sums0[m]);
            sums1[m] = simd.mul_add_f32s(*w1, x[m], sums1[m]);
        }
    }
    *sums = [sums0, sums1];
}

/// Decoded elements, aligned to cache lines.
#[repr(align(64))]
struct EncodedPiece([f32; PIECE]);

/// The left rows vector by vector, `(K / lanes, M, lanes)` from a cache line on, the last one filled up with zeros: the
/// innermost loop then walks a single pointer.
struct Lines<const M: usize> {
    data: Vec<f32>,
    skip: usize,
}

impl<const M: usize> Lines<M> {
    #[inline(always)]
    fn pack(x: &[f32], lanes: usize) -> Self {
        let k = x.len() / M;
        let mut data = vec![0f32; k.next_multiple_of(lanes) * M + 16];
        let skip = data.as_ptr().align_offset(64).min(16);
        for (m, row) in x.chunks_exact(k.max(1)).enumerate() {
            for (i, piece) in row.chunks(lanes).enumerate() {
                let at = skip + (i * M + m) * lanes;
                data[at..at + piece.len()].copy_from_slice(piece);
            }
        }
        Self { data, skip }
    }

    #[inline(always)]
    fn lines(&self) -> &[f32] {
        &self.data[self.skip..]
    }
}
