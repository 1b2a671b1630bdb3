//! Attention on a GPU: the launches of kernels/attention.cuh, and of attention_tensor.cuh for 16-bit
//! elements. No score is ever in memory; masks are a few numbers a segment.

use candle_core::{DType, Tensor};

use super::tables::Tables;
use super::{Attention, Gradients, Segments};
use crate::Result;
use crate::ops::kernels::{self, Argument, Call, Element, Launcher, Module};

/// Threads of a block.
const THREADS: usize = 128;

/// The widest head that kernels are made for.
const MAX_HEAD_DIM: usize = WIDEST.forward.width;

/// How a kernel cuts its work: what kernels/attention*.cu have as arguments of their templates.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    name: &'static str,
    /// Heads of up to this dimension.
    width: usize,
    /// Rows of a block's own: queries, but keys where the gradient of these is made.
    rows: usize,
    /// Shared memory of a block, f32.
    shared_floats: usize,
}

/// The kernels of a width of heads and a kind of elements.
#[derive(Debug, Clone, Copy)]
struct Kernels {
    forward: Kernel,
    /// Where segments have few queries each, as the branches of a sweep.
    few: Option<Kernel>,
    vjp_q: Kernel,
    vjp_kv: Kernel,
}

/// f32 elements, and heads too wide for tensor cores: forward's rows and keys, and rows and keys of the gradients.
const fn wide(names: [&'static str; 3], width: usize, [rows, keys]: [usize; 2], gradient: usize) -> Kernels {
    // Tiles of f32; four numbers of padding a row keep the memory's banks apart.
    let (tiles, scores) = ((rows + keys) * (width + 4), rows * (keys + 4));
    let (gradient_tiles, gradient_scores) = (4 * gradient * (width + 4), gradient * (gradient + 4));
    let [forward, vjp_q, vjp_kv] = names;
    Kernels {
        forward: Kernel { name: forward, width, rows, shared_floats: tiles + scores },
        few: None,
        vjp_q: Kernel { name: vjp_q, width, rows: gradient, shared_floats: gradient_tiles + gradient_scores },
        vjp_kv: Kernel { name: vjp_kv, width, rows: gradient, shared_floats: gradient_tiles + 2 * gradient_scores },
    }
}

/// 16-bit elements on tensor cores.
const fn tensor(names: [&'static str; 3], width: usize) -> Kernels {
    // Rows of elements with eight of padding; two in an f32.
    let row = (width + 8) / 2;
    let [forward, vjp_q, vjp_kv] = names;
    Kernels {
        // Two tiles of 64 keys, where the 64 rows of queries lie before them.
        forward: Kernel { name: forward, width, rows: 64, shared_floats: 2 * 64 * row },
        few: None,
        vjp_q: Kernel { name: vjp_q, width, rows: 64, shared_floats: 64 * row },
        // Two tiles of 16 keys, and two of queries for each of four warps.
        vjp_kv: Kernel { name: vjp_kv, width, rows: 16, shared_floats: 10 * 16 * row },
    }
}

const NAMES_64: [&str; 3] = ["attention_64", "attention_vjp_q_64", "attention_vjp_kv_64"];
const NAMES_128: [&str; 3] = ["attention_128", "attention_vjp_q_128", "attention_vjp_kv_128"];
const NAMES_256: [&str; 3] = ["attention_256", "attention_vjp_q_256", "attention_vjp_kv_256"];

const WIDEST: Kernels = wide(NAMES_256, 256, [16, 16], 8);
const TENSOR: [Kernels; 3] = [tensor(NAMES_64, 64), tensor(NAMES_128, 128), WIDEST];
const F32: [Kernels; 3] = [
    Kernels { few: Some(few("attention_few_64", 64)), ..wide(NAMES_64, 64, [32, 32], 32) },
    Kernels { few: Some(few("attention_few_128", 128)), ..wide(NAMES_128, 128, [32, 32], 16) },
    WIDEST,
];

const fn few(name: &'static str, width: usize) -> Kernel {
    Kernel { name, ..wide([name, "", ""], width, [8, 32], 8).forward }
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
        let kernels = self.kernels_of(&q);
        let kernel = kernels.few.filter(|few| most <= few.rows).unwrap_or(kernels.forward);
        self.call(kernel, &q, tiles(&tables.queries, self.group(), kernel.rows)).with(arguments).launch_for_one(launcher)
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
        let Kernels { vjp_q, vjp_kv, .. } = self.kernels_of(&q);
        let grid = tiles(&tables.queries, self.group(), vjp_q.rows);
        let of_q = self.call(vjp_q, &q, grid).with(arguments).launch(launcher)?;
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
        let of_kv = self.call(vjp_kv, &q, tiles(&tables.rows, 1, vjp_kv.rows)).with(arguments).launch(launcher)?;
        let [dk, dv] = of_kv.as_slice() else { return Err(missing()) };
        Ok(Gradients { q: dq.clone(), k: dk.clone(), v: dv.clone() })
    }

    /// Those for this head dimension and elements as `q`'s.
    fn kernels_of(&self, q: &Tensor) -> Kernels {
        let all = if q.dtype() == DType::F32 { F32 } else { TENSOR };
        all.into_iter().find(|kernels| self.head_dim <= kernels.forward.width).unwrap_or(WIDEST)
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

    fn call<'a>(&self, kernel: Kernel, q: &Tensor, tiles: usize) -> Call<'a> {
        let (name, shared_floats) = (kernel.name.into(), kernel.shared_floats);
        let (dtype, grid) = (q.dtype(), [tiles, self.kv_heads]);
        Call { module: Module::Attention, name, dtype, grid, threads: THREADS, shared_floats, arguments: vec![] }
    }
}

/// Tiles of up to `size` rows, of `each` rows of runs of these lengths.
fn tiles(lengths: &[usize], each: usize, size: usize) -> usize {
    lengths.iter().map(|length| (length * each).div_ceil(size)).sum()
}

fn missing() -> crate::Error {
    candle_core::Error::msg("a kernel of the attention gave too few results").into()
}
