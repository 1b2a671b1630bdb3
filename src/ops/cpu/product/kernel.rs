//! Which kernel multiplies matrices on this machine. Not how: that is in `packed` and `gemm`.

use std::sync::OnceLock;

use gemm::Parallelism;
use strum::{Display, EnumString, IntoEnumIterator, IntoStaticStr};

use super::gemm as by_gemm;
use super::matrix::{Destination, Matrix, Right};
#[cfg(target_arch = "x86_64")]
use super::packed::{self, Amx, Avx2, Avx512, Avx512Bf16};
use crate::{Error, Result};

/// The variable of the environment that names the widest kernel to use.
const VARIABLE: &str = "BIPO_KERNEL";

/// What the operands of a product are when they are multiplied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operands {
    F32,
    Bf16,
}

/// What multiplies two matrices.
#[derive(Clone, Copy)]
pub enum ProductKernel {
    /// Pairs of bf16 by the tile registers of AMX.
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    /// Pairs of bf16 in the registers of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
    /// f32, or bf16 as f32, in the registers of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// f32, or bf16 as f32, in the registers of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// The kernel of the crate `gemm`, for every processor.
    Gemm,
}

/// Names of the kernels, from the one that every processor has to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Display, EnumString, IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "lowercase")]
enum Name {
    Gemm,
    Avx2,
    Avx512,
    Avx512Bf16,
    Amx,
}

impl ProductKernel {
    /// The kernel for a product on this machine.
    pub(super) fn choose(a: Matrix, b: Right) -> Self {
        if a.cols == 0 {
            return Self::Gemm; // nothing is packed
        }
        Self::of(if matches!(b, Right::F32(_)) { Operands::F32 } else { Operands::Bf16 })
    }

    /// The kernel for products of these operands on this machine.
    pub(super) fn of(operands: Operands) -> Self {
        static CHOSEN: OnceLock<[ProductKernel; 2]> = OnceLock::new();
        let [for_f32, for_bf16] = CHOSEN.get_or_init(|| [Operands::F32, Operands::Bf16].map(Self::of_machine));
        if operands == Operands::F32 { *for_f32 } else { *for_bf16 }
    }

    /// The widest kernel that this machine has and the user allows.
    fn of_machine(operands: Operands) -> Self {
        let widest = forced().ok().flatten().unwrap_or(Name::Amx);
        let allowed = |kernel: &Self| kernel.name() <= widest;
        Self::all(operands).into_iter().find(allowed).unwrap_or(Self::Gemm)
    }

    /// All kernels for these operands that this machine has, from the widest on.
    pub(super) fn all(operands: Operands) -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(not(target_arch = "x86_64"))]
        let _ = operands;
        #[cfg(target_arch = "x86_64")]
        {
            if operands == Operands::Bf16 {
                kernels.extend(Amx::try_new().map(Self::Amx));
                kernels.extend(Avx512Bf16::try_new().map(Self::Avx512Bf16));
            }
            kernels.extend(pulp::x86::V4::try_new().map(Self::Avx512));
            kernels.extend(pulp::x86::V3::try_new().map(Self::Avx2));
        }
        kernels.push(Self::Gemm);
        kernels
    }

    fn name(self) -> Name {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => Name::Amx,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => Name::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Name::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Name::Avx2,
            Self::Gemm => Name::Gemm,
        }
    }

    /// `destination (m, n) = [onto +] a (m, k) · b (k, n)`, by one thread or by all.
    ///
    /// # Safety
    /// The destination must be valid for writes of `a.rows` rows of as many elements as b has columns, `row_stride` apart
    /// (`row_stride` no less than that), and overlap neither operand; what is added must be valid for reads of the same.
    pub(super) unsafe fn multiply(self, destination: Destination, a: Matrix, b: Right, parallelism: Parallelism) {
        assert_eq!(a.cols, b.dims().0);
        // SAFETY: as the caller promises.
        unsafe {
            match (self, b) {
                #[cfg(target_arch = "x86_64")]
                (Self::Amx(tiling), Right::Bf16(b)) => packed::multiply(tiling, destination, a, b, parallelism),
                #[cfg(target_arch = "x86_64")]
                (Self::Avx512Bf16(tiling), Right::Bf16(b)) => packed::multiply(tiling, destination, a, b, parallelism),
                #[cfg(target_arch = "x86_64")]
                (Self::Avx512(simd), Right::Bf16(b)) => {
                    packed::multiply(Avx512::<true>::new(simd), destination, a, b, parallelism);
                }
                #[cfg(target_arch = "x86_64")]
                (Self::Avx512(simd), Right::F32(b)) => {
                    packed::multiply(Avx512::<false>::new(simd), destination, a, b, parallelism);
                }
                #[cfg(target_arch = "x86_64")]
                (Self::Avx2(simd), Right::Bf16(b)) => packed::multiply(Avx2::<true>::new(simd), destination, a, b, parallelism),
                #[cfg(target_arch = "x86_64")]
                (Self::Avx2(simd), Right::F32(b)) => packed::multiply(Avx2::<false>::new(simd), destination, a, b, parallelism),
                (_, Right::Bf16(b)) => by_gemm::multiply_bf16(destination, a, b, parallelism),
                (_, Right::F32(b)) => by_gemm::multiply(destination, a, b, parallelism),
            }
        }
    }
}

/// Returns the names of the kernels that multiply matrices on this machine, those of f32 and those of bf16: `gemm` (the crate),
/// `avx2`, `avx512`, `avx512bf16` or `amx`.
pub fn kernel_names() -> [&'static str; 2] {
    [Operands::F32, Operands::Bf16].map(|operands| ProductKernel::of(operands).name().into())
}

/// Returns how many times as many operations a second this processor's instructions for bf16 do as those for f32; `None` where it
/// has none, or the user allows none.
pub fn bf16_gain() -> Option<u32> {
    match ProductKernel::of(Operands::Bf16).name() {
        Name::Amx => Some(16), // 8192 products in 16 cycles, and two times 16 of f32 in each
        Name::Avx512Bf16 => Some(2),
        _ => None,
    }
}

/// Checks the variable of the environment `BIPO_KERNEL`, which names the widest kernel to use.
///
/// # Errors
/// The variable names no kernel, or one that this machine lacks.
pub fn check_kernel() -> Result<()> {
    let Some(forced) = forced()? else { return Ok(()) };
    let there: Vec<Name> = ProductKernel::all(Operands::Bf16).into_iter().map(ProductKernel::name).rev().collect();
    match there.contains(&forced) {
        true => Ok(()),
        false => Err(Error::Argument(format!("{VARIABLE}={forced}: this machine has {}", list(there)))),
    }
}

/// The kernel that the environment names.
fn forced() -> Result<Option<Name>> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return Ok(None) };
    let value = value.to_string_lossy();
    let unknown = |_| Error::Argument(format!("{VARIABLE}={value}: expected one of {}", list(Name::iter())));
    value.parse().map(Some).map_err(unknown)
}

fn list(names: impl IntoIterator<Item = Name>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}
