//! Attention on a GPU: the launches of kernels/attention.cuh. No score is ever in memory; masks are a few numbers a segment.

use candle_core::Tensor;

use super::tables::Tables;
use super::{Attention, Gradients, Segments};
use crate::Result;
use crate::ops::kernels::{self, Argument, Call, Element, Launcher, Module};

/// Threads of a block.
const THREADS: usize = 128;

/// The widest head that the kernels are made for.
const MAX_HEAD_DIM: usize = 256;

/// Rows of queries and keys in a block's tiles of the forward pass: `FORWARD` in kernels/attention.cuh.
#[derive(Clone, Copy)]
struct Tile {
    name: &'static str,
    width: usize,
    rows: usize,
    keys: usize,
}

const FORWARD: [Tile; 3] = [
    Tile { name: "attention_64", width: 64, rows: 32, keys: 32 },
    Tile { name: "attention_128", width: 128, rows: 32, keys: 32 },
    Tile { name: "attention_256", width: 256, rows: 16, keys: 16 },
];

/// Those of passes whose segments have few queries each, as the branches of a sweep.
const FEW: [Tile; 2] = [
    Tile { name: "attention_few_64", width: 64, rows: 8, keys: 32 },
    Tile { name: "attention_few_128", width: 128, rows: 8, keys: 32 },
];

/// Those of the gradient: `BACKWARD` in kernels/attention.cuh.
const BACKWARD: [Tile; 3] = [
    Tile { name: "64", width: 64, rows: 32, keys: 32 },
    Tile { name: "128", width: 128, rows: 16, keys: 16 },
    Tile { name: "256", width: 256, rows: 8, keys: 8 },
];

impl Tile {
    /// f32 of `many` tiles of rows of a head, of which one has keys, and `scores` tiles of scores.
    fn shared_floats(&self, many: usize, scores: usize) -> usize {
        // Four numbers of padding a row keep the memory's banks apart.
        ((many - 1) * self.rows + self.keys) * (self.width + 4) + scores * self.rows * (self.keys + 4)
    }
}

impl Segments {
    /// Writes the rows of k and v of a pass, `(T, K·D)`, to their places in those of a cache.
    pub(crate) fn write(&self, [k, v]: [&Tensor; 2], [cache_k, cache_v]: [&Tensor; 2]) -> Result<()> {
        let (Some(launcher), Some(tables)) = (kernels::launcher(k.device()), &self.tables) else {
            return self.write_runs([k, v], [cache_k, cache_v]);
        };
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

    fn write_runs(&self, new: [&Tensor; 2], cache: [&Tensor; 2]) -> Result<()> {
        for (rows, cache) in new.into_iter().zip(cache) {
            for segment in self.iter() {
                let (queries, first) = (&segment.queries, segment.own.end - segment.queries.len());
                cache.slice_set(&rows.narrow(0, queries.start, queries.len())?.contiguous()?, 0, first)?;
            }
        }
        Ok(())
    }
}

impl Attention {
    /// What runs the kernels, and the tables that they read, where there are kernels for these heads.
    pub(super) fn kernels<'a>(&self, q: &Tensor, segments: &'a Segments) -> Option<(&'static dyn Launcher, &'a Tables)> {
        let launcher = kernels::launcher(q.device()).filter(|_| self.head_dim <= MAX_HEAD_DIM)?;
        Some((launcher, segments.tables.as_ref()?))
    }

    pub(super) fn forward_kernel(&self, launcher: &dyn Launcher, [q, k, v]: [&Tensor; 3], tables: &Tables) -> Result<Tensor> {
        let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
        let mut arguments = vec![
            Argument::read(&q),
            Argument::read(&k),
            Argument::read(&v),
            Argument::output(q.shape()),
            Argument::Read(&tables.segments, Element::U32),
        ];
        arguments.extend(self.shape()?);
        let most = tables.queries.iter().max().map_or(0, |queries| queries * self.group());
        let few = FEW.iter().find(|tile| self.head_dim <= tile.width && most <= tile.rows);
        let tile = few.unwrap_or_else(|| self.tile(&FORWARD));
        self.call(tile.name, &q, [tiles(&tables.queries, self.group(), tile.rows), tile.shared_floats(2, 1)])
            .with(arguments)
            .launch_for_one(launcher)
    }

    pub(super) fn vjp_kernel(
        &self,
        launcher: &dyn Launcher,
        [q, k, v]: [&Tensor; 3],
        tables: &Tables,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let [q, k, v, dy] = [q.contiguous()?, k.contiguous()?, v.contiguous()?, dy.contiguous()?];
        let ((rows, _), (key_rows, _)) = (q.dims2()?, k.dims2()?);
        if tables.rows.iter().sum::<usize>() != key_rows {
            return Err(candle_core::Error::msg("no gradient of the rows of a cache").into());
        }
        let statistics = || Argument::Output((rows, self.heads).into(), Element::F32);
        let mut arguments = vec![
            Argument::read(&q),
            Argument::read(&k),
            Argument::read(&v),
            Argument::read(&dy),
            Argument::output(q.shape()),
            statistics(),
            statistics(),
            Argument::Read(&tables.segments, Element::U32),
        ];
        arguments.extend(self.shape()?);
        let tile = self.tile(&BACKWARD);
        let name = format!("attention_vjp_q_{}", tile.name);
        let grid = tiles(&tables.queries, self.group(), tile.rows);
        let of_q = self.call(&name, &q, [grid, tile.shared_floats(4, 1)]).with(arguments).launch(launcher)?;
        let [dq, log_sums, deltas] = of_q.as_slice() else { return Err(missing()) };

        let mut arguments = vec![
            Argument::read(&q),
            Argument::read(&k),
            Argument::read(&v),
            Argument::read(&dy),
            Argument::Read(log_sums, Element::F32),
            Argument::Read(deltas, Element::F32),
            Argument::output(k.shape()),
            Argument::output(v.shape()),
            Argument::Read(&tables.segments, Element::U32),
            Argument::Read(&tables.intervals, Element::U32),
            Argument::Read(&tables.entries, Element::U32),
        ];
        arguments.extend(self.shape()?);
        let name = format!("attention_vjp_kv_{}", tile.name);
        let of_kv = self.call(&name, &q, [tiles(&tables.rows, 1, tile.rows), tile.shared_floats(4, 2)]);
        let of_kv = of_kv.with(arguments).launch(launcher)?;
        let [dk, dv] = of_kv.as_slice() else { return Err(missing()) };
        Ok(Gradients { q: dq.clone(), k: dk.clone(), v: dv.clone() })
    }

    /// The tile for this head dimension.
    fn tile(&self, of: &'static [Tile; 3]) -> &'static Tile {
        let [small, middle, large] = of;
        match self.head_dim {
            dim if dim <= small.width => small,
            dim if dim <= middle.width => middle,
            _ => large,
        }
    }

    /// The kernels' last parameters.
    fn shape<'a>(&self) -> Result<[Argument<'a>; 5]> {
        Ok([
            Argument::size(self.kv_heads)?,
            Argument::size(self.group())?,
            Argument::size(self.head_dim)?,
            Argument::U32(self.sliding_window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX)),
            Argument::F32(self.scale() as f32),
        ])
    }

    fn call<'a>(&self, name: &str, q: &Tensor, [tiles, shared_floats]: [usize; 2]) -> Call<'a> {
        let (dtype, grid) = (q.dtype(), [tiles, self.kv_heads]);
        Call { module: Module::Attention, name: name.into(), dtype, grid, threads: THREADS, shared_floats, arguments: vec![] }
    }
}

/// Tiles of up to `size` rows, of `each` rows of runs of these lengths.
fn tiles(lengths: &[usize], each: usize, size: usize) -> usize {
    lengths.iter().map(|length| (length * each).div_ceil(size)).sum()
}

fn missing() -> crate::Error {
    candle_core::Error::msg("a kernel of the attention gave too few results").into()
}
