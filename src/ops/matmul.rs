//! candle's matrix product, for tensors of every device and type.

use candle_core::{DType, Tensor};

use crate::Result;

/// `a (T, I)` · `b (I, O)` → `(T, O)`, or a batch of such products. On the CPU bf16, which candle does not multiply there,
/// goes through f32.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device().is_cpu() && a.dtype() == DType::BF16 {
        let product = a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?;
        return Ok(product.to_dtype(DType::BF16)?);
    }
    Ok(a.contiguous()?.matmul(b)?)
}
