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
    match rows {
        1 => arch.dispatch(OfRows::<1, _>(product)),
        2 => arch.dispatch(OfRows::<2, _>(product)),
        3 => arch.dispatch(OfRows::<3, _>(product)),
        4 => arch.dispatch(OfRows::<4, _>(product)),
        5 => arch.dispatch(OfRows::<5, _>(product)),
        6 => arch.dispatch(OfRows::<6, _>(product)),
        7 => arch.dispatch(OfRows::<7, _>(product)),
        8 => arch.dispatch(OfRows::<8, _>(product)),
        9 => arch.dispatch(OfRows::<9, _>(product)),
        10 => arch.dispatch(OfRows::<10, _>(product)),
        11 => arch.dispatch(OfRows::<11, _>(product)),
        12 => arch.dispatch(OfRows::<12, _>(product)),
        _ => panic!("{rows} rows, expected 1 to {MAX_ROWS}"),
    }
}

#[cfg(test)]
mod tests;
