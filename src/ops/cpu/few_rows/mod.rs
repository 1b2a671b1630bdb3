//! Products of a few rows with every row of an encoded weight, bound by reading the weight: each of its rows is read once. The
//! order of additions of one result does not depend on how many rows there are, so that a row's results have the same bits
//! alone and in a batch. The body is compiled for each number of rows. The same with an f32 weight is in `product`.
//!
//! Begin with [`multiply`]; `encoded` has the body that it compiles for each number of rows.

pub mod encoded;

use encoded::EncodedProducts;
use pulp::{Arch, Simd, WithSimd};

/// The most rows that one pass over the weight serves.
pub const MAX_ROWS: usize = 12;

/// Code for a number of rows that the compiler knows: `with_row_count!(rows, M => f::<M>())` is `f` of 1 to [`MAX_ROWS`] rows.
macro_rules! with_row_count {
    ($rows:expr, $count:ident => $body:expr) => {
        $crate::ops::cpu::few_rows::with_row_count!(@of $rows, $count, $body, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@of $rows:expr, $count:ident, $body:expr, $($n:literal)+) => {
        match $rows {
            $($n => {
                const $count: usize = $n;
                $body
            })+
            rows => panic!("{rows} rows, expected 1 to {}", $crate::ops::cpu::few_rows::MAX_ROWS),
        }
    };
}

pub(in crate::ops::cpu) use with_row_count;

/// A product whose number of left rows `M` is known when it is compiled.
struct OfRows<'a, const M: usize, F>(EncodedProducts<'a, F>);

impl<'w, const M: usize, F: Fn(usize) -> &'w [u8]> WithSimd for OfRows<'_, M, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.run::<S, M>(simd);
    }
}

/// Computes a product of `rows` left rows with the widest vector instructions of the machine.
///
/// Panics when `rows` is 0 or more than [`MAX_ROWS`].
pub fn multiply<'w>(rows: usize, product: EncodedProducts<impl Fn(usize) -> &'w [u8]>) {
    let arch = Arch::new();
    with_row_count!(rows, M => arch.dispatch(OfRows::<M, _>(product)))
}

#[cfg(test)]
mod tests;
