//! The numbers of one block of each encoding, as ggml lays it out and candle reads it, bit for bit. A block of GGUF is unpacked
//! to whole numbers first: element = code · factor + summand, with one factor and summand a run of 16 elements. Plain loops of
//! fixed length over arrays, which the compiler turns into vector instructions inside `vectorised`; bytes are read one by one,
//! since blocks in a mapped file are not aligned.

/// Elements of a block of the `K` formats.
const SUPER: usize = 256;

/// Runs `block` over whole blocks.
#[inline(always)]
pub fn each<const BYTES: usize, const ELEMENTS: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<ELEMENTS>();
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}

/// f16 to f32 without a branch: the bits are those of a smaller f32, which a power of two makes the number itself; infinities
/// and what is not a number get f32's exponent for them.
#[inline(always)]
pub fn f16(bytes: [u8; 2]) -> f32 {
    let half = u16::from_le_bytes(bytes) as u32;
    let (sign, magnitude) = ((half & 0x8000) << 16, half & 0x7fff);
    let finite = f32::from_bits(magnitude << 13) * 2f32.powi(127 - 15);
    let exponent = if magnitude >= 0x7c00 { f32::INFINITY.to_bits() } else { 0 };
    f32::from_bits(sign | finite.to_bits() | exponent)
}

/// bf16 to f32: the upper half of the bits.
#[inline(always)]
pub fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits((u16::from_le_bytes(bytes) as u32) << 16)
}

/// Elements of a block that share a factor and a summand.
pub const RUN: usize = 16;

/// Where a block is unpacked to: `codes (E)`, `factors (E / 16)` and `summands (E / 16)`. Encodings without summands leave them
/// as they are.
pub struct Unpacked<'a, const ELEMENTS: usize, const RUNS: usize> {
    /// Whole numbers.
    pub codes: &'a mut [i8; ELEMENTS],
    /// What the codes of a run are multiplied with.
    pub factors: &'a mut [f32; RUNS],
    /// What is then added in a run.
    pub summands: &'a mut [f32; RUNS],
}

/// Whether blocks of an encoding have summands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Summands {
    /// Each run has one.
    Some,
    /// Summands are zero and not written.
    None,
}

/// What takes most of the time in a block, unless the processor has instructions for it that the compiler does not find.
pub trait BlockOps {
    /// Two f16, each twice.
    fn widen(bytes: [u8; 4]) -> [[f32; 2]; 2];

    /// The low nibbles of sixteen bytes, then the high ones.
    fn nibbles(bytes: &[u8; 16]) -> [u8; 32];

    /// Nibbles like [`BlockOps::nibbles`] with a fifth bit each: the bits of `fifth`, one after the other.
    fn five_bits(bytes: &[u8; 16], fifth: [u8; 4]) -> [u8; 32];

    /// code · factor + summand, or code · factor where there is none. The product is rounded before the sum.
    fn numbers(codes: &[i8; RUN], factor: f32, summand: Option<f32>) -> [f32; RUN];
}

/// Plain loops, for every processor.
pub struct Plain;

impl BlockOps for Plain {
    #[inline(always)]
    fn widen([a0, a1, b0, b1]: [u8; 4]) -> [[f32; 2]; 2] {
        [[f16([a0, a1]); 2], [f16([b0, b1]); 2]]
    }

    #[inline(always)]
    fn nibbles(bytes: &[u8; 16]) -> [u8; 32] {
        std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
    }

    #[inline(always)]
    fn five_bits(bytes: &[u8; 16], fifth: [u8; 4]) -> [u8; 32] {
        let (nibbles, fifth) = (Self::nibbles(bytes), u32::from_le_bytes(fifth));
        std::array::from_fn(|i| nibbles[i] | (((fifth >> i) & 1) << 4) as u8)
    }

    #[inline(always)]
    fn numbers(codes: &[i8; RUN], factor: f32, summand: Option<f32>) -> [f32; RUN] {
        std::array::from_fn(|i| {
            let product = i32::from(codes[i]) as f32 * factor;
            summand.map_or(product, |summand| product + summand)
        })
    }
}

/// One f16, twice.
#[inline(always)]
fn one<B: BlockOps>([a0, a1]: [u8; 2]) -> [f32; 2] {
    let [both, _] = B::widen([a0, a1, 0, 0]);
    both
}

/// d, 32 nibbles: q − 8, low halves first.
#[inline(always)]
pub fn q4_0<B: BlockOps>(block: &[u8; 18], out: Unpacked<32, 2>) {
    let [d0, d1, nibbles @ ..] = block;
    *out.factors = one::<B>([*d0, *d1]);
    *out.codes = codes_of(&B::nibbles(nibbles), |q| q as i8 - 8);
}

/// d, minimum, 32 nibbles.
#[inline(always)]
pub fn q4_1<B: BlockOps>(block: &[u8; 20], out: Unpacked<32, 2>) {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    [*out.factors, *out.summands] = B::widen([*d0, *d1, *m0, *m1]);
    *out.codes = codes_of(&B::nibbles(nibbles), |q| q as i8);
}

/// Each number turned into a code.
#[inline(always)]
fn codes_of<const N: usize>(q: &[u8; N], code: impl Fn(u8) -> i8) -> [i8; N] {
    let mut codes = [0; N];
    for j in 0..N {
        codes[j] = code(q[j]);
    }
    codes
}

/// Codes like those of [`codes_of`], from two numbers each.
#[inline(always)]
fn codes_of_both<const N: usize>(a: &[u8; N], b: &[u8; N], code: impl Fn(u8, u8) -> i8) -> [i8; N] {
    let mut codes = [0; N];
    for j in 0..N {
        codes[j] = code(a[j], b[j]);
    }
    codes
}

/// d, fifth bits, 32 nibbles: q − 16.
#[inline(always)]
pub fn q5_0<B: BlockOps>(block: &[u8; 22], out: Unpacked<32, 2>) {
    let [d0, d1, h0, h1, h2, h3, nibbles @ ..] = block;
    *out.factors = one::<B>([*d0, *d1]);
    *out.codes = codes_of(&B::five_bits(nibbles, [*h0, *h1, *h2, *h3]), |q| q as i8 - 16);
}

/// d, minimum, fifth bits, 32 nibbles.
#[inline(always)]
pub fn q5_1<B: BlockOps>(block: &[u8; 24], out: Unpacked<32, 2>) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, nibbles @ ..] = block;
    [*out.factors, *out.summands] = B::widen([*d0, *d1, *m0, *m1]);
    *out.codes = codes_of(&B::five_bits(nibbles, [*h0, *h1, *h2, *h3]), |q| q as i8);
}

/// d, 32 signed bytes.
#[inline(always)]
pub fn q8_0<B: BlockOps>(block: &[u8; 34], out: Unpacked<32, 2>) {
    let [d0, d1, q @ ..] = block;
    (*out.factors, *out.codes) = (one::<B>([*d0, *d1]), codes_of(q, |q| q as i8));
}

/// d, the sum (unused), 32 signed bytes.
#[inline(always)]
pub fn q8_1<B: BlockOps>(block: &[u8; 36], out: Unpacked<32, 2>) {
    let [d0, d1, _, _, q @ ..] = block;
    (*out.factors, *out.codes) = (one::<B>([*d0, *d1]), codes_of(q, |q| q as i8));
}

/// d as f32, 256 signed bytes, sums (unused).
#[inline(always)]
pub fn q8_k(block: &[u8; 292], out: Unpacked<SUPER, 16>) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    (*out.factors, *out.codes) = ([d; 16], codes_of(part::<_, _, SUPER>(block, 4), |q| q as i8));
}

/// `LEN` elements of an array, from `at` on.
#[inline(always)]
fn part<T, const N: usize, const LEN: usize>(array: &[T; N], at: usize) -> &[T; LEN] {
    array[at..].first_chunk().expect("the range has this length")
}

/// Sixteen scales (low nibble) and minima (high), two bits an element in four planes of a half, d, d of the minima.
#[inline(always)]
pub fn q2_k<B: BlockOps>(block: &[u8; 84], out: Unpacked<SUPER, 16>) {
    let scales: &[u8; 16] = part(block, 0);
    let [[d, _], [min, _]] = B::widen(*part(block, 80));
    *out.factors = scales.map(|s| d * (s & 15) as f32);
    *out.summands = scales.map(|s| -(min * (s >> 4) as f32));
    for (half, codes) in planes(out.codes).iter_mut().enumerate() {
        let q: &[u8; 32] = part(block, 16 + 32 * half);
        codes[0] = codes_of(q, |q| (q & 3) as i8);
        codes[1] = codes_of(q, |q| (q >> 2 & 3) as i8);
        codes[2] = codes_of(q, |q| (q >> 4 & 3) as i8);
        codes[3] = codes_of(q, |q| (q >> 6) as i8);
    }
}

/// The codes of a block as two halves of four planes of 32.
#[inline(always)]
fn planes(codes: &mut [i8; SUPER]) -> &mut [[[i8; 32]; 4]] {
    codes.as_chunks_mut::<32>().0.as_chunks_mut::<4>().0
}

/// Third bits (clear means −4), two bits an element in four planes of a half, sixteen scales of six bits, d.
#[inline(always)]
pub fn q3_k<B: BlockOps>(block: &[u8; 110], out: Unpacked<SUPER, 16>) {
    let [d, _] = one::<B>([block[108], block[109]]);
    *out.factors = six_bit_scales(part(block, 96)).map(|s| d * (s as f32 - 32.0));
    let third: &[u8; 32] = part(block, 0);
    for (half, codes) in planes(out.codes).iter_mut().enumerate() {
        let q: &[u8; 32] = part(block, 32 + 32 * half);
        codes[0] = codes_of_both(q, third, |q, third| (q & 3 | (third >> (4 * half) & 1) << 2) as i8 - 4);
        codes[1] = codes_of_both(q, third, |q, third| (q >> 2 & 3 | (third >> (4 * half) & 2) << 1) as i8 - 4);
        codes[2] = codes_of_both(q, third, |q, third| (q >> 4 & 3 | third >> (4 * half) & 4) as i8 - 4);
        codes[3] = codes_of_both(q, third, |q, third| (q >> 6 | (third >> (4 * half) & 8) >> 1) as i8 - 4);
    }
}

/// Sixteen numbers of six bits in twelve bytes: four bits each in the first eight, then two bits each.
#[inline(always)]
fn six_bit_scales(bytes: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|i| {
        let low = if i < 8 { bytes[i] & 15 } else { bytes[i - 8] >> 4 };
        let high = (bytes[8 + i % 4] >> (2 * (i / 4))) & 3;
        low | (high << 4)
    })
}

/// Eight scales and eight minima of six bits in twelve bytes.
#[inline(always)]
fn scales_and_minima(bytes: &[u8; 12]) -> [[u8; 8]; 2] {
    let scales = std::array::from_fn(|i| match i {
        0..4 => bytes[i] & 63,
        _ => (bytes[i + 4] & 15) | ((bytes[i - 4] >> 6) << 4),
    });
    let minima = std::array::from_fn(|i| match i {
        0..4 => bytes[i + 4] & 63,
        _ => (bytes[i + 4] >> 4) | ((bytes[i] >> 6) << 4),
    });
    [scales, minima]
}

/// d · scale and −d of the minima · minimum, of the eight stretches of 32 in a block that begins as `q4_k` and `q5_k` do.
#[inline(always)]
fn eight_stretches<B: BlockOps, const N: usize>(block: &[u8; N], factors: &mut [f32; 16], summands: &mut [f32; 16]) {
    let [[d, _], [min, _]] = B::widen(*part(block, 0));
    let [scales, minima] = scales_and_minima(part(block, 4));
    for i in 0..16 {
        factors[i] = d * scales[i / 2] as f32;
        summands[i] = -(min * minima[i / 2] as f32);
    }
}

/// d, d of the minima, eight scales and minima, nibbles: a stretch of 32 low ones, then the high ones of the same bytes.
#[inline(always)]
pub fn q4_k<B: BlockOps>(block: &[u8; 144], out: Unpacked<SUPER, 16>) {
    eight_stretches::<B, _>(block, out.factors, out.summands);
    for (pair, [low, high]) in out.codes.as_chunks_mut::<32>().0.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let nibbles: &[u8; 32] = part(block, 16 + 32 * pair);
        *low = codes_of(nibbles, |q| (q & 15) as i8);
        *high = codes_of(nibbles, |q| (q >> 4) as i8);
    }
}

/// Q5_K: blocks like those of [`q4_k`] with fifth bits between: bit r of byte j belongs to element j of stretch r.
#[inline(always)]
pub fn q5_k<B: BlockOps>(block: &[u8; 176], out: Unpacked<SUPER, 16>) {
    eight_stretches::<B, _>(block, out.factors, out.summands);
    let fifth: &[u8; 32] = part(block, 16);
    for (pair, [low, high]) in out.codes.as_chunks_mut::<32>().0.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let nibbles: &[u8; 32] = part(block, 48 + 32 * pair);
        *low = codes_of_both(nibbles, fifth, |q, fifth| (q & 15 | (fifth >> (2 * pair) & 1) << 4) as i8);
        *high = codes_of_both(nibbles, fifth, |q, fifth| (q >> 4 | (fifth >> (2 * pair) & 2) << 3) as i8);
    }
}

/// Low nibbles, upper two bits in four planes of a half, sixteen signed scales, d: q − 32.
#[inline(always)]
pub fn q6_k<B: BlockOps>(block: &[u8; 210], out: Unpacked<SUPER, 16>) {
    let [d, _] = one::<B>([block[208], block[209]]);
    *out.factors = part::<_, _, 16>(block, 192).map(|s| d * s as i8 as f32);
    for (half, codes) in planes(out.codes).iter_mut().enumerate() {
        let first: &[u8; 32] = part(block, 64 * half);
        let second: &[u8; 32] = part(block, 64 * half + 32);
        let upper: &[u8; 32] = part(block, 128 + 32 * half);
        codes[0] = codes_of_both(first, upper, |q, upper| (q & 15 | upper << 4 & 48) as i8 - 32);
        codes[1] = codes_of_both(second, upper, |q, upper| (q & 15 | upper << 2 & 48) as i8 - 32);
        codes[2] = codes_of_both(first, upper, |q, upper| (q >> 4 | upper & 48) as i8 - 32);
        codes[3] = codes_of_both(second, upper, |q, upper| (q >> 4 | upper >> 2 & 48) as i8 - 32);
    }
}
