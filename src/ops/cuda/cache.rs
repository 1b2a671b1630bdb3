//! The launch that writes keys and values to a cache: kernels/cache.cu.

use candle_core::Tensor;

use super::call::{Argument, Call, Element, Launcher, Module};
use super::segment_tables::SegmentTables;
use crate::Result;

/// Writes the rows of k and v of a pass, `(T, K·D)`, to their positions in the rows of a cache.
pub fn write(
    launcher: &dyn Launcher,
    [k, v]: [&Tensor; 2],
    [cache_k, cache_v]: [&Tensor; 2],
    tables: &SegmentTables,
) -> Result<()> {
    let ((rows, width), [k, v]) = (k.dims2()?, [k.contiguous()?, v.contiguous()?]);
    let arguments = vec![
        Argument::read(&k),
        Argument::read(&v),
        Argument::Update(cache_k, Element::Model),
        Argument::Update(cache_v, Element::Model),
        Argument::Read(&tables.own, Element::U32),
        Argument::size(width)?,
    ];
    let by_row = Call::by_row(Module::Cache, "write_rows", &k, [rows, width]).with(arguments);
    Call { shared_floats: 0, ..by_row }.launch(launcher)?;
    Ok(())
}
