//! Attention's launches: those of kernels/attention.cuh, and of attention_tensor.cuh for 16-bit elements. No score is ever
//! in memory; masks are a few numbers a segment.

use candle_core::{DType, Tensor};

use super::call::{Argument, Call, Element, Launcher, Module};
use super::segment_tables::SegmentTables;
use crate::Result;
use crate::ops::segment::{AttentionShape, Gradients};

/// Number of threads of a block.
const THREADS: usize = 128;

/// The widest head that kernels are made for.
pub const MAX_HEAD_DIM: usize = WIDEST.forward.width;

/// How a kernel cuts its work: what kernels/attention*.cuh have as arguments of their templates.
#[derive(Debug, Clone, Copy)]
struct AttentionKernel {
    /// Name of the kernel without the width.
    name: &'static str,
    /// The widest head dimension that the kernel takes.
    width: usize,
    /// Rows that a block works on: of queries, but of keys where their gradient is computed.
    rows: usize,
    /// Shared memory of a block, in numbers of f32.
    shared_floats: usize,
}

/// The kernels for heads of one width and elements of one kind.
#[derive(Debug, Clone, Copy)]
struct Kernels {
    forward: AttentionKernel,
    /// The kernel for segments of few queries each, such as the branches of a sweep.
    few: Option<AttentionKernel>,
    vjp_q: AttentionKernel,
    vjp_kv: AttentionKernel,
}

/// Kernels for f32 elements. `[rows, keys]` are those of forward's tiles,
/// `gradient` those of the gradients' tiles.
const fn full(width: usize, [rows, keys]: [usize; 2], gradient: usize) -> Kernels {
    // Tiles of f32; four numbers of padding a row keep the memory's banks apart.
    let (tiles, scores) = ((rows + keys) * (width + 4), rows * (keys + 4));
    let (gradient_tiles, gradient_scores) = (4 * gradient * (width + 4), gradient * (gradient + 4));
    let (of_q, of_kv) = (gradient_tiles + gradient_scores, gradient_tiles + 2 * gradient_scores);
    Kernels {
        forward: AttentionKernel { name: FORWARD, width, rows, shared_floats: tiles + scores },
        few: None,
        vjp_q: AttentionKernel { name: VJP_Q, width, rows: gradient, shared_floats: of_q },
        vjp_kv: AttentionKernel { name: VJP_KV, width, rows: gradient, shared_floats: of_kv },
    }
}

/// Kernels for 16-bit elements, on tensor cores.
const fn tensor(width: usize) -> Kernels {
    // Rows of elements with eight of padding; two in an f32.
    let row = (width + 8) / 2;
    Kernels {
        // Two tiles of 64 keys, where the 64 rows of queries lie before them.
        forward: AttentionKernel { name: FORWARD, width, rows: 64, shared_floats: 2 * 64 * row },
        few: None,
        vjp_q: AttentionKernel { name: VJP_Q, width, rows: 64, shared_floats: 64 * row },
        // Two tiles of 16 keys, and two of queries for each of four warps.
        vjp_kv: AttentionKernel { name: VJP_KV, width, rows: 16, shared_floats: 10 * 16 * row },
    }
}

/// Kernels for 16-bit elements, on tensor cores, of heads whose gradients two warps share.
const fn shared_by_warps(width: usize) -> Kernels {
    // Of four warps, numbers of f32 that each of 32 threads shows the others.
    let (row, shown) = ((width + 8) / 2, 4 * 32);
    Kernels {
        // Two tiles of 32 keys, where the 64 rows of queries lie before them.
        forward: AttentionKernel { name: FORWARD, width, rows: 64, shared_floats: 64 * row },
        few: None,
        // The same with 32 rows of queries and 32 of gradients, and products (16, 32) of each warp.
        vjp_q: AttentionKernel { name: VJP_Q, width, rows: 32, shared_floats: 64 * row + 16 * shown },
        // Two tiles of 32 queries, and products (16, 16) of each warp.
        vjp_kv: AttentionKernel { name: VJP_KV, width, rows: 16, shared_floats: 64 * row + 8 * shown },
    }
}

const FORWARD: &str = "attention";
const VJP_Q: &str = "attention_vjp_q";
const VJP_KV: &str = "attention_vjp_kv";

const WIDEST: Kernels = full(256, [16, 16], 8);
const TENSOR: [Kernels; 3] = [tensor(64), tensor(128), shared_by_warps(256)];
const F32: [Kernels; 3] = [
    Kernels { few: Some(few(64)), ..full(64, [32, 32], 32) },
    Kernels { few: Some(few(128)), ..full(128, [32, 32], 16) },
    WIDEST,
];

/// A kernel for segments of few queries.
const fn few(width: usize) -> AttentionKernel {
    AttentionKernel { name: "attention_few", ..full(width, [8, 32], 8).forward }
}

/// `q (Q, N·D)`, `k` and `v (T, K·D)` → `(Q, N·D)`.
pub fn forward(
    launcher: &dyn Launcher,
    shape: &AttentionShape,
    [q, k, v]: [&Tensor; 3],
    tables: &SegmentTables,
) -> Result<Tensor> {
    let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
    let mut arguments = vec![
        Argument::read(&q),
        Argument::read(&k),
        Argument::read(&v),
        Argument::output(q.shape()),
        Argument::Read(&tables.segments, Element::U32),
    ];
    arguments.extend(parameters(shape)?);
    let most = tables.queries.iter().max().map_or(0, |queries| queries * shape.group());
    let kernels = kernels_of(shape, &q);
    let kernel = kernels.few.filter(|few| most <= few.rows).unwrap_or(kernels.forward);
    call(shape, kernel, &q, count_tiles(&tables.queries, shape.group(), kernel.rows)).with(arguments).launch_for_one(launcher)
}

/// Gradients of q, k and v, given that of the output, `dy (Q, N·D)`.
pub fn vjp(
    launcher: &dyn Launcher,
    shape: &AttentionShape,
    [q, k, v]: [&Tensor; 3],
    tables: &SegmentTables,
    dy: &Tensor,
) -> Result<Gradients> {
    let [q, k, v, dy] = [q.contiguous()?, k.contiguous()?, v.contiguous()?, dy.contiguous()?];
    let ((rows, _), (key_rows, _)) = (q.dims2()?, k.dims2()?);
    if tables.rows.iter().sum::<usize>() != key_rows {
        return Err(candle_core::Error::msg("no gradient of the rows of a cache").into());
    }
    let statistics = || Argument::Output((rows, shape.heads).into(), Element::F32);
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
    arguments.extend(parameters(shape)?);
    let Kernels { vjp_q, vjp_kv, .. } = kernels_of(shape, &q);
    let grid = count_tiles(&tables.queries, shape.group(), vjp_q.rows);
    let of_q = call(shape, vjp_q, &q, grid).with(arguments).launch(launcher)?;
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
    arguments.extend(parameters(shape)?);
    let of_kv = call(shape, vjp_kv, &q, count_tiles(&tables.rows, 1, vjp_kv.rows)).with(arguments).launch(launcher)?;
    let [dk, dv] = of_kv.as_slice() else { return Err(missing()) };
    Ok(Gradients { q: dq.clone(), k: dk.clone(), v: dv.clone() })
}

/// The kernels for this head dimension and elements as `q`'s.
fn kernels_of(shape: &AttentionShape, q: &Tensor) -> Kernels {
    let all = if q.dtype() == DType::F32 { F32 } else { TENSOR };
    all.into_iter().find(|kernels| shape.head_dim <= kernels.forward.width).unwrap_or(WIDEST)
}

/// The last parameters of every kernel.
fn parameters<'a>(shape: &AttentionShape) -> Result<[Argument<'a>; 6]> {
    Ok([
        Argument::size(shape.kv_heads)?,
        Argument::size(shape.group())?,
        Argument::size(shape.head_dim)?,
        Argument::U32(shape.sliding_window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX)),
        Argument::F32(shape.scale as f32),
        Argument::F32(shape.softcap.unwrap_or(0.0) as f32),
    ])
}

/// The launch of a kernel.
fn call<'a>(shape: &AttentionShape, kernel: AttentionKernel, q: &Tensor, tiles: usize) -> Call<'a> {
    let AttentionKernel { name, width, shared_floats, .. } = kernel;
    let (module, name) = match shape.softcap {
        None => (Module::Attention, format!("{name}_{width}")),
        Some(_) => (Module::AttentionCapped, format!("{name}_capped_{width}")),
    };
    let (dtype, grid) = (q.dtype(), [tiles, shape.kv_heads]);
    Call { module, name, dtype, grid, threads: THREADS, shared_floats, arguments: vec![] }
}

/// Number of tiles of up to `size` rows in runs of these lengths, where each unit of a length stands for `each` rows.
fn count_tiles(lengths: &[usize], each: usize, size: usize) -> usize {
    lengths.iter().map(|length| (length * each).div_ceil(size)).sum()
}

/// The error for a kernel that gave too few results.
fn missing() -> crate::Error {
    candle_core::Error::msg("a kernel of the attention gave too few results").into()
}
