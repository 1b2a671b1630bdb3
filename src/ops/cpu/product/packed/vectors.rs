//! Tiles of f32 on processors with AVX2 and with AVX-512, which differ in the number and length of their vector registers alone.
//! Both add in the same order, so that a product has the same bits on either.

use std::ops::Range;

use bytemuck::Pod;
use pulp::x86::{V3, V4};
use pulp::{NullaryFnOnce, Simd};

use super::super::matrix::{Element, Matrix};
use super::pack::{pack_few_left, pack_left, pack_right};
use super::{Tile, Tiling, tile};

/// A tiling of ROWS × COLS f32 sums in the registers of `S`. With ROUNDED, the left matrix is rounded to bf16 when it is packed.
#[derive(Clone, Copy)]
pub struct Vectors<S, const ROWS: usize, const COLS: usize, const ROUNDED: bool>(S);

/// Twelve of sixteen registers hold sums.
pub type Avx2<const ROUNDED: bool> = Vectors<V3, 6, 16, ROUNDED>;

/// 24 of 32 registers hold sums.
pub type Avx512<const ROUNDED: bool> = Vectors<V4, 12, 32, ROUNDED>;

/// Instructions that include AVX2's.
pub trait Instructions: Simd {
    /// AVX2's, with which matrices are packed.
    fn avx2(self) -> V3;

    /// Runs `body` compiled for them.
    fn run(self, body: impl NullaryFnOnce<Output = ()>);
}

impl Instructions for V3 {
    #[inline(always)]
    fn avx2(self) -> V3 {
        self
    }

    #[inline(always)]
    fn run(self, body: impl NullaryFnOnce<Output = ()>) {
        self.vectorize(body);
    }
}

impl Instructions for V4 {
    #[inline(always)]
    fn avx2(self) -> V3 {
        *self
    }

    #[inline(always)]
    fn run(self, body: impl NullaryFnOnce<Output = ()>) {
        self.vectorize(body);
    }
}

impl<S, const ROWS: usize, const COLS: usize, const ROUNDED: bool> Vectors<S, ROWS, COLS, ROUNDED> {
    /// The tiling with these instructions.
    pub fn new(simd: S) -> Self {
        Self(simd)
    }
}

impl<S, const ROWS: usize, const COLS: usize, const ROUNDED: bool> Tiling for Vectors<S, ROWS, COLS, ROUNDED>
where
    S: Instructions,
    [f32; COLS]: Pod,
{
    const ROWS: usize = ROWS;
    const COLS: usize = COLS;
    const UNIT: usize = 1;
    type Unit = f32;

    fn in_turn(self) -> Option<V3> {
        (!ROUNDED).then(|| self.0.avx2())
    }

    #[inline(always)]
    fn vectorize(self, body: impl NullaryFnOnce<Output = ()>) {
        self.0.run(body);
    }

    #[inline(always)]
    fn pack_left(self, a: Matrix, row: usize, packed: &mut [f32]) {
        match packed.len() / a.cols {
            12 if ROWS == 12 => {
                pack_left::<8, ROWS, ROUNDED>(self.0.avx2(), a, row, packed, 0);
                pack_left::<4, ROWS, ROUNDED>(self.0.avx2(), a, row + 8, packed, 8);
            }
            6 if ROWS == 6 => pack_left::<6, ROWS, ROUNDED>(self.0.avx2(), a, row, packed, 0),
            _ => pack_few_left::<ROUNDED>(a, row, packed),
        }
    }

    #[inline(always)]
    fn pack_right<E: Element>(self, b: Matrix<E>, units: Range<usize>, column: usize, packed: &mut [f32]) {
        pack_right::<COLS, E>(self.0.avx2(), b, units, column, packed);
    }

    #[inline(always)]
    unsafe fn write_tile(self, a: &[f32], b: &[f32], tile: Tile) {
        // SAFETY: as the caller promises.
        unsafe {
            tile::write::<S, f32, ROWS, COLS>(
                self.0,
                a,
                b,
                tile,
                #[inline(always)]
                |a, b, sums| {
                    let (a, b): (_, [S::f32s; 2]) = (self.0.splat_f32s(a), pulp::cast(*b));
                    sums[0] = self.0.mul_add_f32s(a, b[0], sums[0]);
                    sums[1] = self.0.mul_add_f32s(a, b[1], sums[1]);
                },
            );
        }
    }
}
