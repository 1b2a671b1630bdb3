//! The bodies of the ops for contiguous f32 tensors of the CPU: one pass over memory each, by all threads.
//!
//! Files import only those above them: `slices`, `vector`, `transpose`, `dots`, `softcap`; `product` (the table of kernels) and
//! `encoding`; `few_rows` and `integer`; `weight_rows`; then the bodies `norm`, `rope`, `gated`, `attention`, `cache`, `linear` and
//! `head`.
//! Begin with `norm`.

pub mod attention;
pub mod cache;
pub mod dots;
pub mod encoding;
pub mod few_rows;
pub mod gated;
pub mod head;
pub mod integer;
pub mod linear;
pub mod norm;
pub mod product;
pub mod rope;
pub mod slices;
pub mod softcap;
#[cfg(target_arch = "x86_64")]
mod transpose;
pub mod vector;
pub mod weight_rows;
