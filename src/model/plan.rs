//! What the blocks of one pass are told of its rows: positions, which rows see which, which are seen through keys and values
//! that were computed before, and which the last block computes. How sequences lie in rows is `layout`'s business.

use candle_core::{Device, Tensor};

use super::layout::Layout;
use crate::Result;
use crate::ops::attention::{Segment, Segments};
use crate::ops::linear::Products;
use crate::ops::rope::{self, Angles, Rope};
use crate::ops::rows::RowSet;

/// Rows of one pass as the blocks need them: made once, used by every block. A part for each stage of the model, on its device.
#[derive(Debug, Clone)]
pub struct PassPlan(Vec<StagePlan>);

/// Rows of one pass as the blocks of one stage need them.
#[derive(Debug, Clone)]
pub(super) struct StagePlan {
    device: Device,
    pub segments: Segments,
    /// Rotations by each of the model's rotary embeddings.
    pub angles: Vec<Angles>,
    /// How the projections add.
    pub products: Products,
    frozen: Option<Frozen>,
}

/// Rows that are not in a pass but seen by it.
#[derive(Debug, Clone)]
struct Frozen {
    keys: FrozenKeys,
    /// The `R` rows of the pass, of all rows `T`.
    live: RowSet,
    live_rows: Vec<usize>,
    /// Order of all rows, of the frozen rows followed by those of the pass.
    order: RowSet,
}

/// Keys, rotated, and values of rows that were computed before, for each block from one on, where that block lies.
/// `(frozen, K·D)` each.
#[derive(Debug, Clone)]
pub(crate) struct FrozenKeys {
    first: usize,
    blocks: Vec<[Tensor; 2]>,
}

impl FrozenKeys {
    /// Holds no keys yet; the first will be of block `first`.
    pub fn from(first: usize) -> Self {
        Self { first, blocks: Vec::new() }
    }

    /// Adds those of the next blocks: of some sequences, one after the other, `(blocks, 2, rows, K·D)` each, brought to `device`
    /// together.
    pub fn push(&mut self, sequences: &[Tensor], device: &Device) -> Result<()> {
        if sequences.is_empty() {
            return Ok(());
        }
        let joined = Tensor::cat(sequences, 2)?.to_device(device)?; // (blocks, 2, frozen, K·D)
        for block in 0..joined.dim(0)? {
            let of_block = joined.get(block)?;
            self.blocks.push([of_block.get(0)?, of_block.get(1)?]);
        }
        Ok(())
    }
}

/// The rows that are queries in a block whose other rows nobody reads. A part for each stage of the model, on its device.
#[derive(Debug, Clone)]
pub(crate) struct Selection(Vec<StageSelection>);

#[derive(Debug, Clone)]
struct StageSelection {
    segments: Segments,
    rows: RowSet,
    angles: Vec<Angles>,
}

impl PassPlan {
    /// Runs of rows.
    pub(crate) fn segments(&self) -> &[Segment] {
        self.0.first().map_or(&[], |stage| &stage.segments)
    }

    /// Positions and runs of `layout` as tensors on each of `devices`, those of the stages in their order.
    pub(crate) fn new<'d>(layout: &Layout, ropes: &[Rope], devices: impl Iterator<Item = &'d Device>) -> Result<Self> {
        devices.map(|device| StagePlan::new(layout, ropes, device)).collect::<Result<_>>().map(Self)
    }

    /// Some rows of `layout` alone (ascending; of each run those at its end): the others are seen through their keys and
    /// values.
    pub(crate) fn of_rows<'d>(
        layout: &Layout,
        rows: &[usize],
        keys: &FrozenKeys,
        ropes: &[Rope],
        devices: impl Iterator<Item = &'d Device>,
    ) -> Result<Self> {
        devices.map(|device| StagePlan::of_rows(layout, rows, keys.clone(), ropes, device)).collect::<Result<_>>().map(Self)
    }

    /// The plan's selection of `rows` (ascending) of the same layout, and the rows that it yields: each run's from its
    /// first wanted row to its last.
    pub(crate) fn select(&self, layout: &Layout, rows: &[usize]) -> Result<(Selection, Vec<usize>)> {
        let (segments, rows) = layout.select(rows);
        let stages = self.0.iter().map(|stage| stage.select(layout, &segments, &rows)).collect::<Result<_>>()?;
        Ok((Selection(stages), rows))
    }
}

impl StagePlan {
    fn new(layout: &Layout, ropes: &[Rope], device: &Device) -> Result<Self> {
        let angles = angles(ropes, &layout.positions, &layout.lengths, device)?;
        let segments = Segments::new(layout.segments.clone(), layout.rows(), device)?;
        Ok(Self { device: device.clone(), segments, angles, products: layout.products, frozen: None })
    }

    fn of_rows(layout: &Layout, rows: &[usize], keys: FrozenKeys, ropes: &[Rope], device: &Device) -> Result<Self> {
        let of_rows = |values: &[usize]| -> Vec<usize> { rows.iter().map(|row| values[*row]).collect() };
        let angles = angles(ropes, &of_rows(&layout.positions), &of_rows(&layout.lengths), device)?;
        let (segments, queries) = layout.select(rows);
        debug_assert_eq!(queries, rows);
        let frozen_count = layout.rows() - rows.len();
        let (mut frozen, mut live) = (0..frozen_count, frozen_count..);
        let place = |row: usize| if rows.binary_search(&row).is_ok() { live.next() } else { frozen.next() };
        let order: Vec<usize> = (0..layout.rows()).filter_map(place).collect();
        let (order, live) = (RowSet::new(&order, layout.rows(), device)?, RowSet::new(rows, layout.rows(), device)?);
        let frozen = Some(Frozen { keys, live, live_rows: rows.to_vec(), order });
        let segments = Segments::new(segments, layout.rows(), device)?;
        Ok(Self { device: device.clone(), segments, angles, products: layout.products, frozen })
    }

    /// Keys and values of all rows in a block, given those of the rows of the pass. `(R, K·D)` → `(T, K·D)` each
    pub(crate) fn with_frozen(&self, block: usize, [k, v]: [Tensor; 2]) -> Result<[Tensor; 2]> {
        let Some(frozen) = &self.frozen else { return Ok([k, v]) };
        let known = block.checked_sub(frozen.keys.first).and_then(|at| frozen.keys.blocks.get(at));
        let Some([known_k, known_v]) = known else {
            return Err(candle_core::Error::msg(format!("no keys of the frozen rows in block {block}")).into());
        };
        let joined = |known: &Tensor, of_pass: &Tensor| frozen.order.take(&Tensor::cat(&[known, of_pass], 0)?);
        Ok([joined(known_k, &k)?, joined(known_v, &v)?])
    }

    /// The rows of the pass. `(T, ·)` → `(R, ·)`.
    pub(crate) fn of_pass(&self, of_all: Tensor) -> Result<Tensor> {
        match &self.frozen {
            Some(frozen) => frozen.live.take(&of_all),
            None => Ok(of_all),
        }
    }

    fn select(&self, layout: &Layout, segments: &[Segment], rows: &[usize]) -> Result<StageSelection> {
        let place = |row: &usize| match &self.frozen {
            Some(frozen) => frozen.live_rows.binary_search(row).unwrap_or_else(|at| at),
            None => *row,
        };
        let of_pass: Vec<usize> = rows.iter().map(place).collect();
        let count = self.frozen.as_ref().map_or(layout.rows(), |frozen| frozen.live_rows.len());
        let rows = RowSet::new(&of_pass, count, &self.device)?;
        let segments = Segments::new(segments.to_vec(), layout.rows(), &self.device)?;
        let angles = self.angles.iter().map(|angles| angles.select(&rows)).collect::<Result<_>>()?;
        Ok(StageSelection { segments, angles, rows })
    }
}

/// The rotations of some rows by each rotary embedding.
fn angles(ropes: &[Rope], positions: &[usize], lengths: &[usize], device: &Device) -> Result<Vec<Angles>> {
    ropes.iter().map(|rope| Angles::new(rope, positions, lengths, device)).collect()
}

impl Selection {
    /// Runs of the selected rows.
    pub(crate) fn segments(&self) -> &[Segment] {
        self.0.first().map_or(&[], |stage| &stage.segments)
    }
}

/// The rows of a pass whose queries its last block computes: all, or a selection.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassRows<'a> {
    plan: &'a PassPlan,
    selection: Option<&'a Selection>,
}

impl<'a> PassRows<'a> {
    pub fn all(plan: &'a PassPlan) -> Self {
        Self { plan, selection: None }
    }

    pub fn of(plan: &'a PassPlan, selection: &'a Selection) -> Self {
        Self { plan, selection: Some(selection) }
    }

    /// What a block of this stage computes that is not the last.
    pub(crate) fn all_at(&self, stage: usize) -> Queries<'a> {
        Queries { plan: &self.plan.0[stage], selection: None }
    }

    /// What the last block computes, which is of this stage.
    pub fn at(&self, stage: usize) -> Queries<'a> {
        Queries { selection: self.selection.map(|selection| &selection.0[stage]), ..self.all_at(stage) }
    }
}

/// The rows whose queries one block computes, where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queries<'a> {
    pub plan: &'a StagePlan,
    selection: Option<&'a StageSelection>,
}

impl<'a> Queries<'a> {
    pub fn segments(&self) -> &'a Segments {
        self.selection.map_or(&self.plan.segments, |selection| &selection.segments)
    }

    /// Rotations of the queries by one of the rotary embeddings; those of the keys are the plan's.
    pub fn angles(&self, rope: usize) -> &'a Angles {
        &self.selection.map_or(&self.plan.angles, |selection| &selection.angles)[rope]
    }

    pub fn selected(&self, rope: usize) -> Option<rope::Selected<'a>> {
        self.selection.map(|selection| (&selection.rows, &selection.angles[rope]))
    }

    /// The rows that are queries. `(R, ·)` → `(Q, ·)`.
    pub fn take(&self, x: &Tensor) -> Result<Tensor> {
        match self.selection {
            Some(selection) => selection.rows.take(x),
            None => Ok(x.clone()),
        }
    }

    /// The queries back in their positions, other rows zero. `(Q, ·)` → `(R, ·)`.
    pub(crate) fn put_back(&self, x: &Tensor) -> Result<Tensor> {
        match self.selection {
            Some(selection) => selection.rows.put_back(x),
            None => Ok(x.clone()),
        }
    }
}
