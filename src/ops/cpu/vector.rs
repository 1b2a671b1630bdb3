//! Loops over f32 slices that vectorise: sums of products, maxima, exponentials. [`vectorised`] compiles a loop for the
//! widest vector instructions of the machine; the order of a sum's additions is the same on every machine.

use pulp::Arch;

/// Runs `body` compiled for the widest vector instructions of this machine. `body` must be `#[inline(always)]`.
#[inline(always)]
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}

/// Partial sums of a loop that adds up.
pub const LANES: usize = 16;

/// Σ a·b in sixteen partial sums: the same order whatever the machine's vector width.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            sums[i] = x[i].mul_add(y[i], sums[i]);
        }
    }
    sums.iter().sum::<f32>() + rest_dot(a_rest, b_rest)
}

/// Σ a·b of what is left behind the last whole vector, one after the other. Where that is mostly nothing, callers ask first: to sum
/// none took a sixth of the time of a short row.
#[inline(always)]
pub fn rest_dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Σ a·b·c, as [`dot`].
#[inline(always)]
pub fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (c_chunks, c_rest) = c.as_chunks::<LANES>();
    for ((x, y), z) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for i in 0..LANES {
            sums[i] = (x[i] * y[i]).mul_add(z[i], sums[i]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).zip(c_rest).map(|((x, y), z)| x * y * z).sum();
    sums.iter().sum::<f32>() + rest
}

/// Largest element; −∞ of nothing.
#[inline(always)]
pub fn max(a: &[f32]) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for x in chunks {
        for i in 0..LANES {
            maxima[i] = if x[i] > maxima[i] { x[i] } else { maxima[i] };
        }
    }
    maxima.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| m.max(x))
}

/// Replaces each x by exp(x − shift) and returns their sum.
#[inline(always)]
pub fn exp_sum(a: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = a.as_chunks_mut::<LANES>();
    for x in chunks {
        for i in 0..LANES {
            x[i] = exp(x[i] - shift);
            sums[i] += x[i];
        }
    }
    let mut total = sums.iter().sum::<f32>();
    for x in rest {
        *x = exp(*x - shift);
        total += *x;
    }
    total
}

/// e^x within 2 units in the last place, without a branch, so that loops over it vectorise: x = n·ln 2 + r, e^r by the
/// degree-6 polynomial of Cephes' `expf`. NaN stays NaN; below −87.3 the result is 0 or the smallest normal number.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    /// Has its last bit at 1, so that what is added is rounded to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    let clamped = if x < -87.336_54 { -87.336_54 } else { x };
    let clamped = if clamped > 88.722_83 { 88.722_83 } else { clamped };
    let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, clamped));
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, c);
    }
    let p = (p * r).mul_add(r, r) + 1.0;
    // Times 2^n: n is added to the exponent, which cannot overflow, since p < 1 where n is 128.
    let scaled = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < -87.336_54 { 0.0 } else { scaled }
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x within 4 units in the last place, without a branch: near 0 the polynomial of Cephes' `tanhf`, elsewhere by [`exp`].
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let mut p = -5.704_988_7e-3f32;
    for c in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -0.333_332_8] {
        p = p.mul_add(square, c);
    }
    let near = (p * square).mul_add(x, x);
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// y += a·x, element by element.
#[inline(always)]
pub fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = a.mul_add(*x, *y);
    }
}

#[cfg(test)]
#[path = "vector_tests.rs"]
mod tests;
