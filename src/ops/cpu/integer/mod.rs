//! Products of a few rows with encoded rows of a weight in whole numbers, for generation alone: the rows are rounded to 8 bits a
//! block, as llama.cpp does, and multiplied with the weight's own codes. The sums within a block are exact, and the order in
//! which blocks are added does not depend on how many rows there are, so that a row has the same bits alone and in a batch.
//! Begin with [`IntegerKernel`]. The same with rows as they are is in `few_rows`.

// Kernels are vector instructions that the processor was asked for.
#![allow(unsafe_code)]

mod coded_rows;
#[cfg(target_arch = "aarch64")]
mod neon;
mod piece;
#[cfg(test)]
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use coded_rows::CodedRows;

use coded_rows::CodedPiece;
use piece::Piece;

use crate::ops::cpu::encoding::{Encoding, RUN};
use crate::ops::cpu::few_rows::with_row_count;

/// Elements whose products share a factor of the left row and, in most encodings, of the weight.
const BLOCK: usize = 32;

/// Elements of a row that are unpacked at a time, a multiple of every encoding's block: they stay in the first-level cache.
const PIECE: usize = 1024;

/// Sums that a kernel keeps of a result. Lane l has the products of the elements 4·l to 4·l + 3 of each block.
const LANES: usize = 8;

/// What multiplies codes. All have the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegerKernel {
    /// AVX2: products of 8 bits, added in pairs to 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-VNNI: one instruction adds four products of 8 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 VNNI: the instruction of AVX-VNNI as a part of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// NEON: products of 16 bits.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// One instruction adds four products of 8 bits.
    #[cfg(target_arch = "aarch64")]
    Dotprod,
    /// Plain loops, which show what the others compute.
    #[cfg(test)]
    Plain,
    /// The kernels of VNNI with their instruction emulated, for machines that lack it.
    #[cfg(all(test, target_arch = "x86_64"))]
    EmulatedVnni,
}

/// Weight rows that are multiplied at a time with so many left rows: enough sums that none waits for the one before it.
const fn weights_at_once(left_rows: usize) -> usize {
    match left_rows {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

impl IntegerKernel {
    /// Kernels that are chosen, the fastest first.
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Avx512Vnni,
        #[cfg(target_arch = "x86_64")]
        Self::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "aarch64")]
        Self::Dotprod,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
    ];

    /// The kernel for this machine; none where there is none for its processor.
    pub fn choose() -> Option<Self> {
        Self::ALL.iter().copied().find(|kernel| kernel.is_available())
    }

    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => "dotprod",
            #[cfg(test)]
            Self::Plain => "plain",
            #[cfg(all(test, target_arch = "x86_64"))]
            Self::EmulatedVnni => "emulated-vnni",
        }
    }

    /// Whether this machine has its instructions.
    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available() && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(test)]
            Self::Plain => true,
            #[cfg(all(test, target_arch = "x86_64"))]
            Self::EmulatedVnni => Self::Avx2.is_available(),
        }
    }

    /// Products of the left rows with weight rows in `encoding`, as many as `out` has room for. → `out (N, M)`
    ///
    /// Panics when this machine lacks the kernel's instructions, a weight row is not as long as the left rows, or
    /// [`Encoding::has_codes`] is false.
    pub fn multiply<'w>(self, x: &CodedRows, encoding: Encoding, weight_row: impl Fn(usize) -> &'w [u8], out: &mut [f32]) {
        assert!(self.is_available(), "{self:?} is not of this machine");
        with_row_count!(x.rows(), M => self.multiply_rows::<M, { weights_at_once(M) }>(x, encoding, weight_row, out))
    }

    /// Products of M left rows with W weight rows at a time.
    fn multiply_rows<'w, const M: usize, const W: usize>(
        self,
        x: &CodedRows,
        encoding: Encoding,
        weight_row: impl Fn(usize) -> &'w [u8],
        out: &mut [f32],
    ) {
        let mut pieces: [Piece; W] = std::array::from_fn(|_| Piece::default());
        let row_count = out.len() / M;
        for (group, out) in out.as_chunks_mut::<M>().0.chunks_mut(W).enumerate() {
            // Where fewer are left, the last one stands for those that are missing.
            let rows: [&[u8]; W] = std::array::from_fn(|i| weight_row(group * W + i.min(out.len() - 1)));
            assert!(
                rows.iter().all(|w| encoding.row_bytes(x.cols()) == Some(w.len())),
                "{} elements in {encoding:?}",
                x.cols()
            );
            // The rows that come next arrive while these are multiplied.
            (0..W).map(|i| (group + 1) * W + i).filter(|row| *row < row_count).for_each(|row| fetch(weight_row(row)));
            let mut sums = [[[0f32; LANES]; M]; W];
            for x in x.pieces::<M>() {
                let span = encoding.span(x.start, x.len());
                pieces.iter_mut().zip(rows).for_each(|(piece, row)| piece.unpack(encoding, &row[span.clone()]));
                self.add(&mut sums, &x, &pieces);
            }
            out.iter_mut().zip(sums).for_each(|(out, sums)| *out = sums.map(sum_of_lanes));
        }
    }

    /// `sums` += products of the left rows' piece with the weight rows'.
    #[inline(always)]
    fn add<const M: usize, const W: usize>(self, sums: &mut [[[f32; LANES]; M]; W], x: &CodedPiece<M>, w: &[Piece; W]) {
        match self {
            // SAFETY: `multiply` asserts that this machine has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::add_with_avx2(sums, x, w) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => unsafe { x86::add_with_avx_vnni(sums, x, w) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => unsafe { x86::add_with_avx512_vnni(sums, x, w) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::add_with_neon(sums, x, w),
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => unsafe { neon::add_with_dotprod(sums, x, w) },
            #[cfg(test)]
            Self::Plain => sums.iter_mut().zip(w).for_each(|(sums, w)| plain::add(sums, x, w)),
            // SAFETY: as above.
            #[cfg(all(test, target_arch = "x86_64"))]
            Self::EmulatedVnni => unsafe { x86::add_with_emulated_vnni(sums, x, w) },
        }
    }
}

/// Returns the name of the kernel that multiplies whole numbers on this machine, if there is one: `avx2`, `avx-vnni` or
/// `avx512-vnni` on x86, `neon` or `dotprod` on aarch64.
pub fn kernel_name() -> Option<&'static str> {
    IntegerKernel::choose().map(IntegerKernel::name)
}

/// Asks for bytes that are needed soon.
#[inline(always)]
fn fetch(bytes: &[u8]) {
    for line in bytes.chunks(64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it is a hint, allowed at any address.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// The sum of a result's lanes, halves first.
fn sum_of_lanes(lanes: [f32; LANES]) -> f32 {
    let half: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (half[0] + half[2]) + (half[1] + half[3])
}

#[cfg(test)]
mod tests;
