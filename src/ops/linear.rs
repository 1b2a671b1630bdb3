//! y = x·Wᵀ + b with a frozen weight: its vjp is one product, dy·W.

use candle_core::Tensor;

use super::matmul::matmul;
pub use super::products::Products;
use super::weight::Weight;
use super::{cpu, cuda};
use crate::Result;

/// The fewest rows whose products with an encoded weight the CPU adds in another order than those of a row alone, unless told
/// otherwise; where it has no kernel of our own, with any weight.
pub(crate) const FEWEST_ROWS_TOGETHER: usize = cpu::few_rows::MAX_ROWS + 1;

/// A frozen projection.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The weight. `(O, I)`
    pub weight: Weight,
    /// The bias, where there is one. `(O,)`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// x·Wᵀ + b. `x (T, I)` → `(T, O)`.
    pub fn forward(&self, x: &Tensor, products: Products) -> Result<Tensor> {
        self.with_bias(product(x, &self.weight, products)?)
    }

    /// `residual (T, O)` + [`Linear::forward`].
    pub(crate) fn forward_onto(&self, residual: &Tensor, x: &Tensor, products: Products) -> Result<Tensor> {
        if self.weight.is_on_host_with(x) {
            let y = self.weight.with_parts(|parts| cpu::linear::forward(x, parts, Some(residual), products))?;
            return self.with_bias(y);
        }
        self.with_bias(match cuda::launcher(x.device()) {
            Some(launcher) => cuda::linear::product(launcher, x, self.weight.tensor()?, Some(residual), x.dtype())?,
            None => (residual + matmul(x, &self.weight.tensor()?.t()?)?)?,
        })
    }

    /// Gradient of x. `dy (T, O)` → `(T, I)`.
    pub fn vjp(&self, dy: &Tensor) -> Result<Tensor> {
        if !self.weight.is_on_host_with(dy) {
            return matmul(dy, self.weight.tensor()?);
        }
        self.weight.with_parts(|parts| cpu::linear::vjp(dy, parts))
    }

    fn with_bias(&self, y: Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }
}

/// x·Wᵀ. `x (T, I)`, `weight (O, I)` → `(T, O)`.
pub(super) fn product(x: &Tensor, weight: &Weight, products: Products) -> Result<Tensor> {
    match weight.is_on_host_with(x) {
        true => weight.with_parts(|parts| cpu::linear::forward(x, parts, None, products)),
        false => matmul(x, &weight.tensor()?.t()?),
    }
}
