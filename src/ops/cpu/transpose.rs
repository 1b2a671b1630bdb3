//! Blocks of eight rows of eight f32 numbers as columns, in registers of AVX.

use std::arch::x86_64::__m256;

use pulp::f32x8;
use pulp::x86::V3;

/// Eight rows of eight as columns.
#[inline(always)]
pub fn transpose(simd: V3, rows: [f32x8; 8]) -> [f32x8; 8] {
    let top = transpose_halves(simd, [rows[0], rows[1], rows[2], rows[3]]);
    let bottom = transpose_halves(simd, [rows[4], rows[5], rows[6], rows[7]]);
    let mut columns = rows;
    for i in 0..4 {
        columns[i] = pulp::cast(simd.avx._mm256_permute2f128_ps::<0x20>(top[i], bottom[i]));
        columns[i + 4] = pulp::cast(simd.avx._mm256_permute2f128_ps::<0x31>(top[i], bottom[i]));
    }
    columns
}

/// Columns i and i + 4 of four rows, for i of 0 to 3.
#[inline(always)]
fn transpose_halves(simd: V3, rows: [f32x8; 4]) -> [__m256; 4] {
    let avx = simd.avx;
    let r: [__m256; 4] = pulp::cast(rows);
    let (low, high) = (avx._mm256_unpacklo_ps(r[0], r[1]), avx._mm256_unpackhi_ps(r[0], r[1]));
    let (low_below, high_below) = (avx._mm256_unpacklo_ps(r[2], r[3]), avx._mm256_unpackhi_ps(r[2], r[3]));
    [
        avx._mm256_shuffle_ps::<0x44>(low, low_below),
        avx._mm256_shuffle_ps::<0xee>(low, low_below),
        avx._mm256_shuffle_ps::<0x44>(high, high_below),
        avx._mm256_shuffle_ps::<0xee>(high, high_below),
    ]
}
