//! The decoder's operations, each with `forward` and `vjp` (the gradient of its input, given the gradient of its output).
//!
//! No tape: the weights are frozen, so only input gradients exist. Every op has three bodies. Contiguous f32 tensors on the
//! CPU take a fused one, a single pass over memory (`cpu`); CUDA takes a kernel of ours, also one pass (`cuda`);
//! everything else (Metal, bf16 and f16 on the CPU) takes a composition of candle's own ops, which stands beside the op
//! itself. The first and the last are proved against finite differences and against candle's differentiable twins, the
//! kernels on the CPU against those two.
//!
//! Begin with `norm.rs`, the smallest op with all three. Files import only those above them:
//!
//! 1. `tiles`, `matmul`, and what ops take: `activation`, `angles`, `expert_stack`, `prediction`,
//!    `products`, `rms_norm`, `segment`
//! 2. `cpu` and `cuda`, neither of which knows the other
//! 3. `softcap`, `softmax`, `weight`, `rows`
//! 4. the ops: `norm`, `rope`, `gated`, `attention`, `linear`, `head`
//! 5. what is composed of them: `gated_mlp`, then `experts`

mod activation;
mod angles;
pub mod attention;
pub(crate) mod cpu;
pub(crate) mod cuda;
mod expert_stack;
pub(crate) mod experts;
pub mod gated;
pub(crate) mod gated_mlp;
pub mod head;
pub mod linear;
mod matmul;
pub mod norm;
mod prediction;
mod products;
mod rms_norm;
pub mod rope;
pub(crate) mod rows;
mod segment;
mod softcap;
pub(crate) mod softmax;
mod tiles;
pub mod weight;

pub(crate) use cpu::encoding;
pub use cpu::integer::kernel_name as integer_kernel;
pub(crate) use cpu::product::bf16_gain;
pub use cpu::product::{check_kernel, kernel_names as product_kernels};

#[cfg(test)]
mod tests;
