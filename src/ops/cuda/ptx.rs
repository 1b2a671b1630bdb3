//! The kernels' PTX, as `scripts/kernels.sh` made it.

use candle_core::DType;

use super::Module;

impl Module {
    /// A name for the driver's cache, and the PTX.
    pub(super) fn ptx(self, dtype: DType) -> (&'static str, &'static str) {
        match (self, dtype) {
            (Self::Norm, _) => ("bipo_norm", include_str!("../../../kernels/norm.ptx")),
            (Self::Swiglu, _) => ("bipo_swiglu", include_str!("../../../kernels/swiglu.ptx")),
            (Self::Rope, _) => ("bipo_rope", include_str!("../../../kernels/rope.ptx")),
            (Self::Head, _) => ("bipo_head", include_str!("../../../kernels/head.ptx")),
            (Self::Loss, _) => ("bipo_loss", include_str!("../../../kernels/loss.ptx")),
            (Self::Cache, _) => ("bipo_cache", include_str!("../../../kernels/cache.ptx")),
            (Self::Rows, _) => ("bipo_rows", include_str!("../../../kernels/rows.ptx")),
            (Self::Attention, DType::F16) => ("bipo_attention_f16", include_str!("../../../kernels/attention_f16.ptx")),
            (Self::Attention, DType::BF16) => ("bipo_attention_bf16", include_str!("../../../kernels/attention_bf16.ptx")),
            (Self::Attention, _) => ("bipo_attention_f32", include_str!("../../../kernels/attention_f32.ptx")),
        }
    }
}
