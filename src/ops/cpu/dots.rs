//! Products of one row with many, each with the bits of [`dot`]. With AVX2, eight of them are summed side by side, where `dot` alone
//! waits for the sixteen additions at its end, one after the other.

use super::vector::{dot, vectorised};

/// Writes [`dot`] of `a` and each of `rows` to `products`. Each row has the length of `a`, and there is a row for each product.
pub fn dots<'r>(a: &[f32], rows: impl Iterator<Item = &'r [f32]>, products: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(
            #[inline(always)]
            || avx2::dots(simd, a, rows, products),
        );
    }
    vectorised(
        #[inline(always)]
        || {
            for (product, row) in products.iter_mut().zip(rows) {
                *product = dot(a, row);
            }
        },
    );
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use pulp::f32x8;
    use pulp::x86::V3;

    use crate::ops::cpu::transpose::transpose;
    use crate::ops::cpu::vector::{LANES, dot, rest_dot};

    /// Rows whose products are summed side by side.
    const ROWS: usize = 8;

    #[inline(always)]
    pub fn dots<'r>(simd: V3, a: &[f32], mut rows: impl Iterator<Item = &'r [f32]>, products: &mut [f32]) {
        let (eights, rest) = products.as_chunks_mut::<ROWS>();
        for products in eights {
            let mut eight = [a; ROWS];
            for (place, row) in eight.iter_mut().zip(rows.by_ref()) {
                *place = row;
            }
            *products = eight_dots(simd, a, eight);
        }
        for (product, row) in rest.iter_mut().zip(rows) {
            *product = dot(a, row);
        }
    }

    /// The products of `a` with eight rows.
    #[inline(always)]
    fn eight_dots(simd: V3, a: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
        let (a_chunks, a_rest) = a.as_chunks::<LANES>();
        let mut parts = [a_chunks; ROWS];
        for (part, row) in parts.iter_mut().zip(rows) {
            *part = &row.as_chunks::<LANES>().0[..a_chunks.len()];
        }
        // Eight of the lanes at a time, whose sums fit the registers.
        let of_first = lanes::<0>(simd, a_chunks, parts);
        let of_second = lanes::<1>(simd, a_chunks, parts);
        let mut total = of_first[0];
        for lane in of_first[1..].iter().chain(&of_second) {
            total = simd.add_f32x8(total, *lane);
        }
        let mut products: [f32; ROWS] = pulp::cast(total);
        if !a_rest.is_empty() {
            for (product, row) in products.iter_mut().zip(rows) {
                *product += rest_dot(a_rest, &row[a.len() - a_rest.len()..]);
            }
        }
        products
    }

    /// The sums of half the lanes: a vector for each lane, with those of the rows side by side.
    #[inline(always)]
    fn lanes<const HALF: usize>(simd: V3, a: &[[f32; LANES]], rows: [&[[f32; LANES]]; ROWS]) -> [f32x8; ROWS] {
        let mut sums = [simd.splat_f32x8(0.0); ROWS];
        for (chunk, x) in a.iter().enumerate() {
            let x: [f32x8; 2] = pulp::cast(*x);
            for (sum, row) in sums.iter_mut().zip(rows) {
                let y: [f32x8; 2] = pulp::cast(row[chunk]);
                *sum = simd.mul_add_f32x8(x[HALF], y[HALF], *sum);
            }
        }
        transpose(simd, sums)
    }
}

#[cfg(test)]
#[path = "dots_tests.rs"]
mod tests;
