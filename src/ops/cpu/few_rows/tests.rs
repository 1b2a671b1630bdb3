//! Products of few rows with encoded weights against f64 sums of the decoded numbers, and their bits alone and in a batch.

use half::{bf16, f16};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::encoded::EncodedProducts;
use super::{MAX_ROWS, multiply};
use crate::ops::cpu::encoding::Encoding;
use crate::ops::cpu::encoding::tests::{BLOCKS, bits, decoded, quantised, random};

/// Products with the rows of an encoded weight. `x (rows, K)` → `out (N, rows)`
fn few_rows<'w>(encoding: Encoding, x: &[f32], rows: usize, weight_row: impl Fn(usize) -> &'w [u8], out: &mut [f32]) {
    multiply(rows, EncodedProducts { encoding, x, weight_row, out });
}

/// Encoded random weights. `(rows, cols)`
fn weights(rng: &mut ChaCha8Rng, encoding: Encoding, rows: usize, cols: usize) -> Vec<u8> {
    let dense = random(rng, rows * cols);
    match encoding {
        Encoding::F32 => dense.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Encoding::F16 => dense.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        Encoding::Bf16 => dense.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        _ => {
            let (dtype, _) = BLOCKS.into_iter().find(|(dtype, _)| Encoding::from(*dtype) == encoding).unwrap();
            quantised(rng, dtype, rows, cols)
        }
    }
}

/// Each encoding with a row length that ends inside a vector, or inside a decoded piece.
fn cases() -> Vec<(Encoding, usize)> {
    let dense = [Encoding::F32, Encoding::F16, Encoding::Bf16].map(|encoding| (encoding, 1047));
    let blocks = BLOCKS.map(|(dtype, _)| (Encoding::from(dtype), if dtype.block_size() == 32 { 1056 } else { 1280 }));
    dense.into_iter().chain(blocks).chain([(Encoding::F32, 3), (Encoding::Q4_1, 32)]).collect()
}

#[test]
fn few_rows_agree_with_decoding_and_f64_sums() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (encoding, k) in cases() {
        let (n, row_bytes) = (11, encoding.row_bytes(k).unwrap());
        let w = weights(&mut rng, encoding, n, k);
        let dense = decoded(encoding, &w, n * k);
        // Rows in another order than the file's.
        let permuted = |i: usize| (i * 7) % n;
        for rows in [1, 2, 5, MAX_ROWS] {
            let x = random(&mut rng, rows * k);
            let mut out = vec![f32::NAN; n * rows];
            few_rows(encoding, &x, rows, |i| &w[permuted(i) * row_bytes..][..row_bytes], &mut out);
            for i in 0..n {
                for m in 0..rows {
                    let (w, x) = (&dense[permuted(i) * k..][..k], &x[m * k..][..k]);
                    let expected: f64 = w.iter().zip(x).map(|(w, x)| *w as f64 * *x as f64).sum();
                    let size: f64 = w.iter().zip(x).map(|(w, x)| (*w as f64 * *x as f64).abs()).sum();
                    let found = out[i * rows + m] as f64;
                    assert!((found - expected).abs() <= 1e-6 * size, "{encoding:?}: {found}, expected {expected}");
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (encoding, k) in cases() {
        let (n, row_bytes) = (9, encoding.row_bytes(k).unwrap());
        let w = weights(&mut rng, encoding, n, k);
        let x = random(&mut rng, MAX_ROWS * k);
        let row = |i: usize| &w[i * row_bytes..][..row_bytes];
        let alone: Vec<Vec<u32>> = x
            .chunks_exact(k)
            .map(|x| {
                let mut out = vec![f32::NAN; n];
                few_rows(encoding, x, 1, row, &mut out);
                bits(&out)
            })
            .collect();
        for rows in 2..=MAX_ROWS {
            let mut out = vec![f32::NAN; n * rows];
            few_rows(encoding, &x[..rows * k], rows, row, &mut out);
            for (m, alone) in alone.iter().take(rows).enumerate() {
                let batched: Vec<f32> = out.iter().skip(m).step_by(rows).copied().collect();
                assert_eq!(&bits(&batched), alone, "{encoding:?}, row {m} of {rows}");
            }
        }
    }
}
