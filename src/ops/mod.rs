//! The decoder's operations, each with `forward` and `vjp` (the gradient of its input, given the gradient of its output).
//!
//! No tape: the weights are frozen, so only input gradients exist. Every op has two bodies. Contiguous f32 tensors on the CPU
//! take a fused one, a single pass over memory; everything else (CUDA, Metal, bf16, f16) takes a composition of candle's
//! own ops. Both are proved against finite differences and against candle's differentiable twins.

pub mod attention;
pub mod encoding;
pub mod head;
pub(crate) mod host;
pub mod linear;
pub mod norm;
pub mod rope;
pub mod swiglu;

#[cfg(test)]
mod tests;
