//! The products of all experts of a pass in one launch: kernels/grouped.cu.

use candle_core::{DType, Tensor};

use super::call::{Argument, Call, Element, Launcher, Module};
use super::routing::DeviceRoutes;
use crate::Result;

/// Rows of a block.
const TILE_ROWS: usize = 64;

/// Which rows the left factor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupedRows {
    /// One for each row of the pass, which goes to each of its experts. `(Q, ·)`
    OfPass,
    /// One for each choice, sorted by expert. `(Q·k, ·)`
    Sorted,
}

/// x·Wᵀ of each choice with its expert's matrix. `weight (E, O, I)` → `(Q·k, O)`, sorted by expert.
pub fn product(
    launcher: &dyn Launcher,
    (x, rows): (&Tensor, GroupedRows),
    weight: &Tensor,
    routes: &DeviceRoutes,
) -> Result<Tensor> {
    multiply(launcher, "grouped_product", (x, rows), (weight, [2, 1]), routes)
}

/// dy·W of each choice with its expert's matrix. `weight (E, O, I)` → `(Q·k, I)`, sorted by expert.
pub fn product_vjp(
    launcher: &dyn Launcher,
    (dy, rows): (&Tensor, GroupedRows),
    weight: &Tensor,
    routes: &DeviceRoutes,
) -> Result<Tensor> {
    multiply(launcher, "grouped_product_vjp", (dy, rows), (weight, [1, 2]), routes)
}

/// Number of columns, threads, and numbers of shared memory, in f32, of a block.
fn body_of(dtype: DType) -> [usize; 3] {
    match dtype {
        // Which rows they are, and tiles of 16 columns and as many rows; four numbers of padding a row.
        DType::F32 => [64, 256, TILE_ROWS + 2 * 16 * (64 + 4)],
        // The same, and two steps of tiles of 32 columns; eight elements of padding a row, two in an f32.
        _ => [128, 128, TILE_ROWS + 2 * (TILE_ROWS + 128) * (32 + 8) / 2],
    }
}

/// A product over one dimension of the weight, which leaves the other one.
fn multiply(
    launcher: &dyn Launcher,
    name: &str,
    (x, rows): (&Tensor, GroupedRows),
    (weight, [inner, columns]): (&Tensor, [usize; 2]),
    routes: &DeviceRoutes,
) -> Result<Tensor> {
    let (inner, columns) = (weight.dim(inner)?, weight.dim(columns)?);
    let ((count, width), (of_pass, per_token)) = (x.dims2()?, routes.chosen.dims2()?);
    let (experts, choices, x) = (weight.dim(0)?, routes.choices(), x.contiguous()?);
    let expected = if rows == GroupedRows::OfPass { of_pass } else { choices };
    if count != expected || width != inner || routes.starts.elem_count() != experts + 1 {
        return Err(candle_core::Error::msg("a product of experts got tensors that do not fit each other").into());
    }
    let arguments = vec![
        Argument::read(&x),
        Argument::read(weight),
        Argument::Read(&routes.starts, Element::U32),
        Argument::Read(&routes.order, Element::U32),
        Argument::output((choices, columns)),
        Argument::size(inner)?,
        Argument::size(columns)?,
        Argument::size(experts)?,
        Argument::size(if rows == GroupedRows::OfPass { per_token } else { 0 })?,
    ];
    let [tile_columns, threads, shared_floats] = body_of(x.dtype());
    // However the choices fall, no more tiles than these: each expert with rows has one that is not full.
    let tiles = choices / TILE_ROWS + experts.min(choices);
    let grid = [tiles, columns.div_ceil(tile_columns)];
    let by_row = Call::by_row(Module::Grouped, name, &x, [tiles, columns]).with(arguments);
    Call { grid, threads, shared_floats, ..by_row }.launch_for_one(launcher)
}
