//! The kernels of x86: blocks of 32 codes in a register of 256 bits. They differ in how four products of 8 bits become one sum.

use std::arch::x86_64::*;

use super::LANES;
use super::coded_rows::CodedPiece;
use super::piece::Piece;

/// `sums` += products of a piece, with AVX2.
///
/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn add_with_avx2<const M: usize, const W: usize>(
    sums: &mut [[[f32; LANES]; M]; W],
    x: &CodedPiece<M>,
    w: &[Piece; W],
) {
    // Two products of at most 128 · 127 fit 16 bits.
    let dot = |w, x| _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
    // SAFETY: as the caller promises.
    unsafe { add(sums, x, w, dot) }
}

/// `sums` += products of a piece, with AVX-VNNI.
///
/// # Safety
/// The processor must have AVX2, FMA and AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub unsafe fn add_with_avx_vnni<const M: usize, const W: usize>(
    sums: &mut [[[f32; LANES]; M]; W],
    x: &CodedPiece<M>,
    w: &[Piece; W],
) {
    let dot = |w, x| _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), w, x);
    // SAFETY: as the caller promises.
    unsafe { add(sums, x, w, dot) }
}

/// `sums` += products of a piece, with VNNI of AVX-512.
///
/// # Safety
/// The processor must have AVX2, FMA, AVX512-VNNI and AVX512-VL.
#[target_feature(enable = "avx2,fma,avx512vnni,avx512vl")]
pub unsafe fn add_with_avx512_vnni<const M: usize, const W: usize>(
    sums: &mut [[[f32; LANES]; M]; W],
    x: &CodedPiece<M>,
    w: &[Piece; W],
) {
    let dot = |w, x| _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x);
    // SAFETY: as the caller promises.
    unsafe { add(sums, x, w, dot) }
}

/// `sums` += products of a piece, with plain loops in place of the instruction of VNNI.
///
/// # Safety
/// The processor must have AVX2 and FMA.
#[cfg(test)]
#[target_feature(enable = "avx2,fma")]
pub unsafe fn add_with_emulated_vnni<const M: usize, const W: usize>(
    sums: &mut [[[f32; LANES]; M]; W],
    x: &CodedPiece<M>,
    w: &[Piece; W],
) {
    let dot = |w: __m256i, x: __m256i| {
        let (mut unsigned, mut signed) = ([[0u8; 4]; LANES], [[0i8; 4]; LANES]);
        // SAFETY: loads and stores are of arrays of 32 bytes.
        unsafe {
            _mm256_storeu_si256(unsigned.as_mut_ptr().cast(), w);
            _mm256_storeu_si256(signed.as_mut_ptr().cast(), x);
            let four =
                |lane: usize| unsigned[lane].into_iter().zip(signed[lane]).map(|(w, x)| i32::from(w) * i32::from(x)).sum();
            let sums: [i32; LANES] = std::array::from_fn(four);
            _mm256_loadu_si256(sums.as_ptr().cast())
        }
    };
    // SAFETY: as the caller promises.
    unsafe { add(sums, x, w, dot) }
}

/// `sums` += products of a piece. `dot` multiplies 32 numbers without a sign with 32 numbers, and adds four and four; where codes
/// have one, it moves to the other factor.
///
/// # Safety
/// The processor must have AVX2, FMA and what `dot` needs; this function is inlined where the compiler knows it.
#[inline(always)]
unsafe fn add<const M: usize, const W: usize>(
    sums: &mut [[[f32; LANES]; M]; W],
    x: &CodedPiece<M>,
    w: &[Piece; W],
    dot: impl Fn(__m256i, __m256i) -> __m256i,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match w[0].has_summands {
            true => add_some::<M, W, true>(sums, x, w, dot),
            false => add_some::<M, W, false>(sums, x, w, dot),
        }
    }
}

/// Adds like [`add`], of pieces that all have summands or all have none.
///
/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn add_some<const M: usize, const W: usize, const HAS_SUMMANDS: bool>(
    sums: &mut [[[f32; LANES]; M]; W],
    x: &CodedPiece<M>,
    w: &[Piece; W],
    dot: impl Fn(__m256i, __m256i) -> __m256i,
) {
    // SAFETY: the processor has the instructions, and each load and store is of an array of 32 bytes, or of two floats.
    unsafe {
        let mut lanes: [[__m256; M]; W] =
            std::array::from_fn(|i| std::array::from_fn(|m| _mm256_loadu_ps(sums[i][m].as_ptr())));
        let halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
        for (block, (x, x_factors)) in x.codes.iter().zip(x.factors).enumerate() {
            for i in 0..W {
                let codes = _mm256_loadu_si256(w[i].codes[block].as_ptr().cast());
                let factors = _mm_castpd_ps(_mm_load_sd(w[i].factors[block].as_ptr().cast()));
                let factors = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(factors), halves);
                let sizes = if HAS_SUMMANDS { codes } else { _mm256_abs_epi8(codes) };
                for m in 0..M {
                    let x = _mm256_loadu_si256(x[m].as_ptr().cast());
                    let x = if HAS_SUMMANDS { x } else { _mm256_sign_epi8(x, codes) };
                    let factors = _mm256_mul_ps(factors, _mm256_set1_ps(x_factors[m]));
                    lanes[i][m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot(sizes, x)), factors, lanes[i][m]);
                }
            }
        }
        if HAS_SUMMANDS {
            for (eight, x) in x.sums.iter().enumerate() {
                for i in 0..W {
                    let summands = _mm256_loadu_ps(w[i].summands[eight].as_ptr());
                    for m in 0..M {
                        lanes[i][m] = _mm256_fmadd_ps(summands, _mm256_loadu_ps(x[m].as_ptr()), lanes[i][m]);
                    }
                }
            }
        }
        for (sums, lanes) in sums.as_flattened_mut().iter_mut().zip(lanes.as_flattened()) {
            _mm256_storeu_ps(sums.as_mut_ptr(), *lanes);
        }
    }
}
