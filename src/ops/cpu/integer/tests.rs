//! Products in whole numbers against f64 sums of the numbers that the codes stand for, against the plain loops to the bit, and
//! alone and in a batch.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::ops::cpu::encoding::tests::{BLOCKS, bits, decoded, quantised, random};
use crate::ops::cpu::few_rows::MAX_ROWS;

/// Every encoding with codes, with a length of rows that ends inside a piece.
fn cases(rng: &mut ChaCha8Rng, rows: usize) -> Vec<(Encoding, usize, Vec<u8>)> {
    let case = |(dtype, _): (candle_core::quantized::GgmlDType, _)| {
        let cols = if dtype.block_size() == 32 { 1056 } else { 1280 };
        (Encoding::from(dtype), cols, quantised(rng, dtype, rows, cols))
    };
    BLOCKS.into_iter().map(case).collect()
}

/// Products of the left rows with the rows of a weight. `x (M, K)` → `(N, M)`
fn products(kernel: IntegerKernel, encoding: Encoding, x: &[f32], w: &[u8], cols: usize) -> Vec<f32> {
    let row_bytes = encoding.row_bytes(cols).unwrap();
    let mut out = vec![f32::NAN; w.len() / row_bytes * (x.len() / cols)];
    kernel.multiply(&CodedRows::new(x, cols), encoding, |row| &w[row * row_bytes..][..row_bytes], &mut out);
    out
}

/// The numbers that rows are rounded to: 127 steps to the largest of 32.
fn rounded(x: &[f32]) -> Vec<f64> {
    let blocks = x.chunks_exact(BLOCK).flat_map(|block| {
        let largest = f64::from(block.iter().fold(0f32, |most, x| most.max(x.abs())));
        block.iter().map(move |x| (f64::from(*x) * 127.0 / largest).round_ties_even() * largest / 127.0)
    });
    blocks.collect()
}

#[test]
fn products_are_those_of_the_rounded_rows_with_the_decoded_weight() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let kernel = IntegerKernel::choose().unwrap_or(IntegerKernel::Plain);
    for (encoding, cols, w) in cases(&mut rng, 5) {
        let x = random(&mut rng, 3 * cols);
        let (dense, rounded) = (decoded(encoding, &w, 5 * cols), rounded(&x));
        for (i, found) in products(kernel, encoding, &x, &w, cols).into_iter().enumerate() {
            let (w, x) = (&dense[i / 3 * cols..][..cols], &rounded[i % 3 * cols..][..cols]);
            let expected: f64 = w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
            let size: f64 = w.iter().zip(x).map(|(w, x)| (f64::from(*w) * x).abs()).sum();
            assert!((f64::from(found) - expected).abs() <= 2e-6 * size, "{encoding:?}: {found}, expected {expected}");
        }
    }
}

/// The kernels that run here, those of VNNI with their instruction emulated among them.
fn kernels() -> impl Iterator<Item = IntegerKernel> {
    let emulated: &[IntegerKernel] = &[
        #[cfg(target_arch = "x86_64")]
        IntegerKernel::EmulatedVnni,
    ];
    IntegerKernel::ALL.iter().chain(emulated).copied().filter(|kernel| kernel.is_available())
}

#[test]
fn every_kernel_of_this_machine_has_the_bits_of_the_plain_loops() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (encoding, cols, w) in cases(&mut rng, 3) {
        for rows in [1, 2, 5, MAX_ROWS] {
            let x = random(&mut rng, rows * cols);
            let plain = bits(&products(IntegerKernel::Plain, encoding, &x, &w, cols));
            for kernel in kernels() {
                assert_eq!(bits(&products(kernel, encoding, &x, &w, cols)), plain, "{kernel:?}, {encoding:?}, {rows} rows");
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    // −128 · ±127 in all places: pairs of products reach 2 · 128 · 127 = 32512.
    let block = [[0, 0x3c].as_slice(), &[0x80; 32]].concat(); // d = 1
    for kernel in kernels().chain([IntegerKernel::Plain]) {
        for sign in [1f32, -1.0] {
            assert_eq!(products(kernel, Encoding::Q8_0, &[sign; 32], &block, 32), [-128.0 * 32.0 * sign], "{kernel:?}");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let kernel = IntegerKernel::choose().unwrap_or(IntegerKernel::Plain);
    for (encoding, cols, w) in cases(&mut rng, 4) {
        let x = random(&mut rng, MAX_ROWS * cols);
        let alone: Vec<f32> = x.chunks_exact(cols).flat_map(|x| products(kernel, encoding, x, &w, cols)).collect();
        for rows in 2..=MAX_ROWS {
            let together = products(kernel, encoding, &x[..rows * cols], &w, cols);
            for (i, product) in together.iter().enumerate() {
                assert_eq!(product.to_bits(), alone[i % rows * 4 + i / rows].to_bits(), "{encoding:?}, {rows} rows");
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_has_no_finite_products_and_spoils_no_other_row() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let kernel = IntegerKernel::choose().unwrap_or(IntegerKernel::Plain);
    for (encoding, cols, w) in cases(&mut rng, 2) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = random(&mut rng, 3 * cols);
            x[cols + 40] = bad;
            let out = products(kernel, encoding, &x, &w, cols);
            assert!(out.iter().enumerate().all(|(i, product)| product.is_finite() == (i % 3 != 1)), "{encoding:?}: {out:?}");
        }
    }
}

#[test]
fn a_row_of_zeros_gives_zero() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let kernel = IntegerKernel::choose().unwrap_or(IntegerKernel::Plain);
    for (encoding, cols, w) in cases(&mut rng, 2) {
        assert_eq!(products(kernel, encoding, &vec![0.0; cols], &w, cols), [0.0, 0.0], "{encoding:?}");
    }
}
