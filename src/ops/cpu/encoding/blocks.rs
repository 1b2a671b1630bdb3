//! The numbers of one block of each encoding, as ggml lays it out and candle reads it, bit for bit. Plain loops of fixed
//! length over arrays, which the compiler turns into vector instructions inside `vectorised`; bytes are read one by
//! one, since blocks in a mapped file are not aligned.

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

/// f16 to f32 without a branch: normal numbers are shifted and given the other bias, subnormal ones converted as integers.
#[inline(always)]
pub fn f16(bytes: [u8; 2]) -> f32 {
    const REBIAS: u32 = (127 - 15) << 23;
    let half = u16::from_le_bytes(bytes) as u32;
    let (sign, magnitude) = ((half & 0x8000) << 16, half & 0x7fff);
    let normal = (magnitude << 13) + REBIAS;
    let subnormal = (magnitude as i32 as f32 * 2f32.powi(-24)).to_bits();
    let finite = if magnitude < 0x0400 { subnormal } else { normal };
    let bits = if magnitude >= 0x7c00 { normal + REBIAS } else { finite };
    f32::from_bits(sign | bits)
}

/// bf16 to f32: the upper half of the bits.
#[inline(always)]
pub fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits((u16::from_le_bytes(bytes) as u32) << 16)
}

/// d, 32 nibbles: q − 8, low halves first.
#[inline(always)]
pub fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, nibbles @ ..] = block;
    let d = f16([*d0, *d1]);
    for j in 0..16 {
        out[j] = ((nibbles[j] & 15) as i32 - 8) as f32 * d;
        out[j + 16] = ((nibbles[j] >> 4) as i32 - 8) as f32 * d;
    }
}

/// d, minimum, 32 nibbles.
#[inline(always)]
pub fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    let (d, m) = (f16([*d0, *d1]), f16([*m0, *m1]));
    for j in 0..16 {
        out[j] = (nibbles[j] & 15) as i32 as f32 * d + m;
        out[j + 16] = (nibbles[j] >> 4) as i32 as f32 * d + m;
    }
}

/// Element j and j + 16 of 32 nibbles with fifth bits.
#[inline(always)]
fn five_bits(nibbles: &[u8; 16], fifth: u32, j: usize) -> (i32, i32) {
    let (low, high) = ((nibbles[j] & 15) as u32, (nibbles[j] >> 4) as u32);
    ((low | ((fifth >> j) << 4) & 16) as i32, (high | (fifth >> (j + 12)) & 16) as i32)
}

/// d, fifth bits, 32 nibbles: q − 16.
#[inline(always)]
pub fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [d0, d1, h0, h1, h2, h3, nibbles @ ..] = block;
    let d = f16([*d0, *d1]);
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    for j in 0..16 {
        let (low, high) = five_bits(nibbles, fifth, j);
        out[j] = (low - 16) as f32 * d;
        out[j + 16] = (high - 16) as f32 * d;
    }
}

/// d, minimum, fifth bits, 32 nibbles.
#[inline(always)]
pub fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, nibbles @ ..] = block;
    let (d, m) = (f16([*d0, *d1]), f16([*m0, *m1]));
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    for j in 0..16 {
        let (low, high) = five_bits(nibbles, fifth, j);
        out[j] = low as f32 * d + m;
        out[j + 16] = high as f32 * d + m;
    }
}

/// d, 32 signed bytes.
#[inline(always)]
pub fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [d0, d1, q @ ..] = block;
    signed_bytes(q, f16([*d0, *d1]), out);
}

/// d, the sum (unused), 32 signed bytes.
#[inline(always)]
pub fn q8_1(block: &[u8; 36], out: &mut [f32; 32]) {
    let [d0, d1, _, _, q @ ..] = block;
    signed_bytes(q, f16([*d0, *d1]), out);
}

/// d as f32, 256 signed bytes, sums (unused).
#[inline(always)]
pub fn q8_k(block: &[u8; 292], out: &mut [f32; SUPER]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    signed_bytes(part::<_, _, SUPER>(block, 4), d, out);
}

#[inline(always)]
fn signed_bytes<const N: usize>(q: &[u8; N], d: f32, out: &mut [f32; N]) {
    for j in 0..N {
        out[j] = q[j] as i8 as f32 * d;
    }
}

/// `LEN` elements of an array, from `at` on.
#[inline(always)]
fn part<T, const N: usize, const LEN: usize>(array: &[T; N], at: usize) -> &[T; LEN] {
    array[at..].first_chunk().expect("the range has this length")
}

/// Sixteen scales (low nibble) and minima (high), two bits an element in four planes of a half, d, d of the minima.
#[inline(always)]
pub fn q2_k(block: &[u8; 84], out: &mut [f32; SUPER]) {
    let scales: &[u8; 16] = part(block, 0);
    let [d, min] = [f16([block[80], block[81]]), f16([block[82], block[83]])];
    let d = scales.map(|s| d * (s & 15) as f32);
    let min = scales.map(|s| min * (s >> 4) as f32);
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        for side in 0..2 {
            let q: &[u8; 16] = part(block, 16 + 32 * half + 16 * side);
            let (d, min): (&[f32; 8], &[f32; 8]) = (part(&d, 8 * half), part(&min, 8 * half));
            for j in 0..16 {
                let q = q[j] as u32;
                out[16 * side + j] = d[side] * (q & 3) as i32 as f32 - min[side];
                out[16 * side + j + 32] = d[side + 2] * ((q >> 2) & 3) as i32 as f32 - min[side + 2];
                out[16 * side + j + 64] = d[side + 4] * ((q >> 4) & 3) as i32 as f32 - min[side + 4];
                out[16 * side + j + 96] = d[side + 6] * (q >> 6) as i32 as f32 - min[side + 6];
            }
        }
    }
}

/// Third bits (clear means −4), two bits an element in four planes of a half, sixteen scales of six bits, d.
#[inline(always)]
pub fn q3_k(block: &[u8; 110], out: &mut [f32; SUPER]) {
    let d = f16([block[108], block[109]]);
    let d = six_bit_scales(part(block, 96)).map(|s| d * (s as f32 - 32.0));
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        for side in 0..2 {
            let q: &[u8; 16] = part(block, 32 + 32 * half + 16 * side);
            let third: &[u8; 16] = part(block, 16 * side);
            let d: &[f32; 8] = part(&d, 8 * half);
            for j in 0..16 {
                let (q, third) = (q[j] as u32, third[j] as u32 >> (4 * half));
                out[16 * side + j] = d[side] * ((q & 3 | (third & 1) << 2) as i32 - 4) as f32;
                out[16 * side + j + 32] = d[side + 2] * ((q >> 2 & 3 | (third & 2) << 1) as i32 - 4) as f32;
                out[16 * side + j + 64] = d[side + 4] * ((q >> 4 & 3 | third & 4) as i32 - 4) as f32;
                out[16 * side + j + 96] = d[side + 6] * ((q >> 6 | (third & 8) >> 1) as i32 - 4) as f32;
            }
        }
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

/// d · scale and d of the minima · minimum of the eight runs of 32 in a block that begins as `q4_k` and `q5_k` do.
#[inline(always)]
fn eight_runs<const N: usize>(block: &[u8; N]) -> ([f32; 8], [f32; 8]) {
    let [d, min] = [f16([block[0], block[1]]), f16([block[2], block[3]])];
    let [scales, minima] = scales_and_minima(part(block, 4));
    (scales.map(|s| d * s as f32), minima.map(|m| min * m as f32))
}

/// d, d of the minima, eight scales and minima, nibbles: a run of 32 low ones, then the high ones of the same bytes.
#[inline(always)]
pub fn q4_k(block: &[u8; 144], out: &mut [f32; SUPER]) {
    let (d, min) = eight_runs(block);
    for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let nibbles: &[u8; 32] = part(block, 16 + 32 * pair);
        let (d0, d1, min0, min1) = (d[2 * pair], d[2 * pair + 1], min[2 * pair], min[2 * pair + 1]);
        for j in 0..32 {
            out[j] = d0 * (nibbles[j] & 15) as i32 as f32 - min0;
            out[j + 32] = d1 * (nibbles[j] >> 4) as i32 as f32 - min1;
        }
    }
}

/// As [`q4_k`] with fifth bits between: bit r of byte j belongs to element j of run r.
#[inline(always)]
pub fn q5_k(block: &[u8; 176], out: &mut [f32; SUPER]) {
    let (d, min) = eight_runs(block);
    let fifth: &[u8; 32] = part(block, 16);
    for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let nibbles: &[u8; 32] = part(block, 48 + 32 * pair);
        let (d0, d1, min0, min1) = (d[2 * pair], d[2 * pair + 1], min[2 * pair], min[2 * pair + 1]);
        for j in 0..32 {
            let (nibbles, fifth) = (nibbles[j] as u32, (fifth[j] as u32) >> (2 * pair));
            out[j] = d0 * (nibbles & 15 | (fifth & 1) << 4) as i32 as f32 - min0;
            out[j + 32] = d1 * (nibbles >> 4 | (fifth & 2) << 3) as i32 as f32 - min1;
        }
    }
}

/// Low nibbles, upper two bits in four planes of a half, sixteen signed scales, d: q − 32.
#[inline(always)]
pub fn q6_k(block: &[u8; 210], out: &mut [f32; SUPER]) {
    let d = f16([block[208], block[209]]);
    let d = part::<_, _, 16>(block, 192).map(|s| d * s as i8 as f32);
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        for side in 0..2 {
            let first: &[u8; 16] = part(block, 64 * half + 16 * side);
            let second: &[u8; 16] = part(block, 64 * half + 32 + 16 * side);
            let upper: &[u8; 16] = part(block, 128 + 32 * half + 16 * side);
            let d: &[f32; 8] = part(&d, 8 * half);
            for j in 0..16 {
                let (first, second, upper) = (first[j] as u32, second[j] as u32, upper[j] as u32);
                out[16 * side + j] = d[side] * ((first & 15 | upper << 4 & 48) as i32 - 32) as f32;
                out[16 * side + j + 32] = d[side + 2] * ((second & 15 | upper << 2 & 48) as i32 - 32) as f32;
                out[16 * side + j + 64] = d[side + 4] * ((first >> 4 | upper & 48) as i32 - 32) as f32;
                out[16 * side + j + 96] = d[side + 6] * ((second >> 4 | upper >> 2 & 48) as i32 - 32) as f32;
            }
        }
    }
}
