//! The decoder's operations, each with `forward` and `vjp` (the gradient of its input, given the gradient of its output).
//!
//! No tape: the weights are frozen, so only input gradients exist. Every op has three bodies. Contiguous f32 tensors on the
//! CPU take a fused one, a single pass over memory; CUDA takes a kernel of ours (`kernels/`), also one pass; everything else
//! (Metal, bf16 and f16 on the CPU) takes a composition of candle's own ops. The first and the last are proved against finite
//! differences and against candle's differentiable twins, the kernels on the CPU against those two.

pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod encoding;
pub mod head;
pub(crate) mod host;
pub(crate) mod kernels;
pub mod linear;
pub mod norm;
pub mod rope;
pub mod rows;
pub mod swiglu;
pub mod weight;

#[cfg(test)]
mod tests;
