//! Decoding against candle's, on blocks that candle made and on arbitrary bytes; products against f64 sums.

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Encoding, few_rows};
use crate::ops::host::MAX_ROWS;

const CPU: Device = Device::Cpu;

/// What candle reads from a GGUF file, with the offsets of the f16 scales in a block.
const BLOCKS: [(GgmlDType, &[usize]); 10] = [
    (GgmlDType::Q4_0, &[0]),
    (GgmlDType::Q4_1, &[0, 2]),
    (GgmlDType::Q5_0, &[0]),
    (GgmlDType::Q5_1, &[0, 2]),
    (GgmlDType::Q8_0, &[0]),
    (GgmlDType::Q2K, &[80, 82]),
    (GgmlDType::Q3K, &[108]),
    (GgmlDType::Q4K, &[0, 2]),
    (GgmlDType::Q5K, &[0, 2]),
    (GgmlDType::Q6K, &[208]),
];

fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Bytes that candle's own quantisation gives. `(rows, cols)`
fn quantised(rng: &mut ChaCha8Rng, dtype: GgmlDType, rows: usize, cols: usize) -> Vec<u8> {
    let dense = Tensor::from_vec(random(rng, rows * cols), (rows, cols), &CPU).unwrap();
    QTensor::quantize(&dense, dtype).unwrap().data().unwrap().into_owned()
}

/// Arbitrary bytes, but finite scales.
fn arbitrary(rng: &mut ChaCha8Rng, dtype: GgmlDType, scales: &[usize], blocks: usize) -> Vec<u8> {
    let mut bytes = vec![0; blocks * dtype.type_size()];
    rng.fill_bytes(&mut bytes);
    for block in bytes.chunks_exact_mut(dtype.type_size()) {
        for &at in scales {
            // An exponent of 31 is infinity or no number.
            block[at + 1] &= if block[at + 1] & 0x7c == 0x7c { 0xfb } else { 0xff };
        }
    }
    bytes
}

fn decoded(encoding: Encoding, bytes: &[u8], len: usize) -> Vec<f32> {
    // One byte off, as a mapped file may be.
    let shifted: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
    let mut out = vec![f32::NAN; len];
    encoding.decode(&shifted[1..], &mut out);
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_block_format_decodes_to_the_bits_that_candle_gives() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (dtype, scales) in BLOCKS {
        let encoding = Encoding::from(dtype);
        assert_eq!(encoding.block(), dtype.block_size(), "{dtype:?}");
        assert_eq!(encoding.row_bytes(dtype.block_size()), Some(dtype.type_size()), "{dtype:?}");
        let len = 6 * 256;
        for bytes in [quantised(&mut rng, dtype, 1, len), arbitrary(&mut rng, dtype, scales, len / dtype.block_size())] {
            let storage = QStorage::from_data(bytes.clone().into(), &CPU, dtype).unwrap();
            let expected = QTensor::new(storage, len).unwrap().dequantize(&CPU).unwrap().to_vec1::<f32>().unwrap();
            assert!(expected.iter().all(|x| x.is_finite()), "{dtype:?}");
            assert_eq!(bits(&decoded(encoding, &bytes, len)), bits(&expected), "{dtype:?}");
        }
    }
}

#[test]
fn the_formats_of_activations_decode_to_the_bits_that_candle_gives() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for dtype in [GgmlDType::Q8_1, GgmlDType::Q8K] {
        let bytes = quantised(&mut rng, dtype, 1, 512);
        let storage = QStorage::from_data(bytes.clone().into(), &CPU, dtype).unwrap();
        let expected = QTensor::new(storage, 512).unwrap().dequantize(&CPU).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(&decoded(dtype.into(), &bytes, 512)), bits(&expected), "{dtype:?}");
    }
}

#[test]
fn every_half_precision_number_decodes_as_the_half_crate_says() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(|bits| bits.to_le_bytes()).collect();
    let (narrow, brain) = (decoded(Encoding::F16, &bytes, 1 << 16), decoded(Encoding::Bf16, &bytes, 1 << 16));
    for bits in 0..=u16::MAX {
        let (expected, found) = (f16::from_bits(bits).to_f32(), narrow[bits as usize]);
        assert!(expected.to_bits() == found.to_bits() || (expected.is_nan() && found.is_nan()), "f16 {bits:#x}: {found}");
        let (expected, found) = (bf16::from_bits(bits).to_f32(), brain[bits as usize]);
        assert!(expected.to_bits() == found.to_bits() || (expected.is_nan() && found.is_nan()), "bf16 {bits:#x}: {found}");
    }
}

#[test]
fn a_row_must_fill_its_blocks() {
    assert_eq!(Encoding::Q4_1.row_bytes(576), Some(360));
    assert_eq!(Encoding::Q4_1.row_bytes(580), None);
    assert_eq!(Encoding::Q4K.row_bytes(576), None);
    assert_eq!(Encoding::Bf16.row_bytes(7), Some(14));
    assert_eq!(Encoding::of_dtype(DType::BF16), Some(Encoding::Bf16));
    assert_eq!(Encoding::of_dtype(DType::U8), None);
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
