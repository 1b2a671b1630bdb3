//! Tiles on processors that multiply pairs of bf16 in the registers of AVX-512 (`vdpbf16ps`): 12 × 32 sums in f32.
//!
//! The order of a sum's additions is that of the instruction: of each pair the second product first, then the first, each with one
//! rounding to f32. Numbers too small for a normal f32 count as zero.

use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps};
use std::ops::Range;

use pulp::NullaryFnOnce;
use pulp::x86::V4;

use super::super::matrix::{Element, Matrix};
use super::pack::{pack_left_band, pack_right_pairs};
use super::{Tile, Tiling, tile};

const ROWS: usize = 12;
const COLS: usize = 32;

/// The tiling for pairs of bf16 in AVX-512's registers.
#[derive(Clone, Copy)]
pub struct Avx512Bf16(V4);

impl Avx512Bf16 {
    /// The tiling, where the processor has the instructions.
    pub fn try_new() -> Option<Self> {
        V4::try_new().filter(|_| is_x86_feature_detected!("avx512bf16")).map(Self)
    }
}

impl Tiling for Avx512Bf16 {
    const ROWS: usize = ROWS;
    const COLS: usize = COLS;
    const UNIT: usize = 2;
    type Unit = u32;

    #[inline(always)]
    fn vectorize(self, body: impl NullaryFnOnce<Output = ()>) {
        // SAFETY: there is no value of this type where the processor lacks the instructions.
        unsafe { vectorize(body) }
    }

    #[inline(always)]
    fn pack_left(self, a: Matrix, row: usize, packed: &mut [u32]) {
        pack_left_band(*self.0, a, row, packed);
    }

    #[inline(always)]
    fn pack_right<E: Element>(self, b: Matrix<E>, units: Range<usize>, column: usize, packed: &mut [u32]) {
        pack_right_pairs::<COLS, E>(*self.0, b, units, column, packed);
    }

    #[inline(always)]
    unsafe fn write_tile(self, a: &[u32], b: &[u32], tile: Tile) {
        // SAFETY: as the caller promises; there is no value of this type where the processor lacks the instruction.
        unsafe {
            tile::write::<V4, u32, ROWS, COLS>(
                self.0,
                a,
                b,
                tile,
                #[inline(always)]
                |a, b, sums| {
                    let (a, [left, right]): (_, [[u32; 16]; 2]) = (pairs([a; 16]), pulp::cast(*b));
                    sums[0] = pulp::cast(_mm512_dpbf16_ps(pulp::cast(sums[0]), a, pairs(left)));
                    sums[1] = pulp::cast(_mm512_dpbf16_ps(pulp::cast(sums[1]), a, pairs(right)));
                },
            );
        }
    }
}

/// Sixteen pairs as the instruction takes them.
#[inline(always)]
fn pairs(pairs: [u32; 16]) -> __m512bh {
    // SAFETY: both are 64 bytes, and any bits are numbers of either.
    unsafe { std::mem::transmute(pairs) }
}

#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt,fxsr")]
fn vectorize(body: impl NullaryFnOnce<Output = ()>) {
    body.call();
}
