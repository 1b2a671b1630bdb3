//! Tiles on processors with AMX, whose tile registers multiply 16 × 32 by 32 × 16 bf16 at once (`tdpbf16ps`): 32 × 32 sums in f32 in
//! four of the eight registers.
//!
//! The order of a sum's additions: of each 32 elements of the inner dimension, those of even index are added up and those of odd
//! index, each product with one rounding to f32; then the two sums are added, and their sum to what there was before. Numbers too
//! small for a normal f32 count as zero.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::ops::Range;
use std::sync::OnceLock;

use pulp::NullaryFnOnce;
use pulp::x86::V3;

use super::super::matrix::{Destination, Element, Matrix};
use super::pack::{pack_left_tiles, pack_right_pairs};
use super::{LINE_BYTES, STEP, Tile, Tiling};

/// Rows and columns of a tile of sums: two registers high and two wide.
const SIDE: usize = 32;

/// Rows of a tile register, and numbers of four bytes in a row of it.
const REGISTER: usize = 16;

/// The tiling for AMX.
#[derive(Clone, Copy)]
pub struct Amx(V3);

impl Amx {
    /// The tiling, where the processor has the instructions and the system lets this process use them.
    pub fn try_new() -> Option<Self> {
        static IS_ALLOWED: OnceLock<bool> = OnceLock::new();
        V3::try_new().filter(|_| *IS_ALLOWED.get_or_init(|| has_instructions() && asks_permission())).map(Self)
    }
}

impl Tiling for Amx {
    const ROWS: usize = SIDE;
    const COLS: usize = SIDE;
    const UNIT: usize = 2;
    const UNITS: usize = REGISTER;
    const WHOLE_BANDS: bool = true;
    type Unit = u32;

    #[inline(always)]
    fn vectorize(self, body: impl NullaryFnOnce<Output = ()>) {
        self.0.vectorize(body);
    }

    #[inline(always)]
    fn with_tiles(self, body: impl NullaryFnOnce<Output = ()>) {
        let _configured = Configured::new();
        self.0.vectorize(body);
    }

    #[inline(always)]
    fn pack_left(self, a: Matrix, row: usize, packed: &mut [u32]) {
        pack_left_tiles(a, row, SIDE, packed);
    }

    #[inline(always)]
    fn pack_right<E: Element>(self, b: Matrix<E>, units: Range<usize>, column: usize, packed: &mut [u32]) {
        pack_right_pairs::<SIDE, E>(self.0, b, units, column, packed);
    }

    #[inline(always)]
    unsafe fn write_tile(self, a: &[u32], b: &[u32], tile: Tile) {
        let Tile { destination, rows, cols, mut fetch } = tile;
        let (a, b) = (a.as_chunks::<{ SIDE * REGISTER }>().0, b.as_chunks::<{ SIDE * REGISTER }>().0);
        let mut sums = [[0f32; SIDE]; SIDE];
        // SAFETY: `with_tiles` has configured the registers as 16 rows of 64 bytes. A step of either operand is 32 rows of 64 bytes
        // or 16 of 128, and so are the sums.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
            for (a, b) in a.iter().zip(b) {
                for _ in 0..REGISTER / STEP {
                    fetch.step();
                }
                asm!(
                    "tileloadd tmm4, [{a} + {a_stride}*1]",
                    "tileloadd tmm5, [{a_below} + {a_stride}*1]",
                    "tileloadd tmm6, [{b} + {b_stride}*1]",
                    "tileloadd tmm7, [{b_right} + {b_stride}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    a = in(reg) a.as_ptr(),
                    a_below = in(reg) a[REGISTER * REGISTER..].as_ptr(),
                    b = in(reg) b.as_ptr(),
                    b_right = in(reg) b[REGISTER..].as_ptr(),
                    a_stride = in(reg) LINE_BYTES,
                    b_stride = in(reg) 2 * LINE_BYTES,
                    options(nostack, readonly),
                );
            }
            let (above, below) = sums.split_at_mut(REGISTER);
            asm!(
                "tilestored [{above} + {stride}*1], tmm0",
                "tilestored [{above_right} + {stride}*1], tmm1",
                "tilestored [{below} + {stride}*1], tmm2",
                "tilestored [{below_right} + {stride}*1], tmm3",
                above = in(reg) above.as_mut_ptr(),
                above_right = in(reg) above.as_mut_ptr().cast::<f32>().add(REGISTER),
                below = in(reg) below.as_mut_ptr(),
                below_right = in(reg) below.as_mut_ptr().cast::<f32>().add(REGISTER),
                stride = in(reg) 2 * LINE_BYTES,
                options(nostack),
            );
        }
        for (row, sums) in sums.iter().take(rows).enumerate() {
            let Destination { data, onto, .. } = destination.at(row, 0);
            for (column, sum) in sums.iter().take(cols).enumerate() {
                // SAFETY: as the caller promises.
                unsafe { data.add(column).write(onto.map_or(*sum, |onto| onto.add(column).read() + sum)) };
            }
        }
    }
}

/// While it lives, the tile registers of its thread are 16 rows of 64 bytes each.
struct Configured;

impl Configured {
    fn new() -> Self {
        /// Palette 1; for each of eight registers the bytes of a row, then the number of its rows.
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        row_bytes[..8].fill(LINE_BYTES as u16);
        rows[..8].fill(REGISTER as u8);
        let configuration = Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows };
        // SAFETY: this is the layout of the 64 bytes that the instruction reads, and an `Amx` exists only where it may run.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) }
        Self
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: it clears the registers, which nothing else uses. Without it the system would save them at each switch of threads.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// Whether the processor has AMX with products of bf16.
fn has_instructions() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    // SAFETY: every processor of this architecture has the instruction. Older compilers ask for the word.
    #[allow(unused_unsafe)]
    let (leaves, extended) = unsafe { (__cpuid_count(0, 0).eax, __cpuid_count(7, 0).edx) };
    leaves >= 7 && extended & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
}

/// Asks Linux to let the threads of this process use the tile registers, whose contents are too large for it to
/// save them for every process. Returns whether it does.
fn asks_permission() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XTILEDATA: u64 = 18;
        let result: i64;
        // SAFETY: the call takes two numbers and no address.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

#[cfg(test)]
impl Amx {
    /// The tiling where the processor lacks the instructions and something else does their work.
    pub fn emulated(simd: V3) -> Self {
        Self(simd)
    }
}
