//! One decoder block: x + attention(norm(x)), then + mlp(norm(·)). `forward` returns what `vjp` needs beside its output;
//! who wants no gradient drops it.

use candle_core::{DType, Device, Tensor};

use super::cache::LayerCache;
use super::config::Config;
use super::layout::Layout;
use super::weights::{WeightStorage, Weights};
use crate::Result;
use crate::ops::attention::{Attention, Gradients, Segment, Segments};
use crate::ops::linear::Linear;
use crate::ops::rope::{Angles, Rope};
use crate::ops::rows::RowSet;
use crate::ops::weight::Weight;
use crate::ops::{norm, rope, swiglu};

/// Weights of a block; field names are the checkpoint's, fused projections joined by their parts' order.
#[derive(Debug, Clone)]
pub struct Block {
    input_layernorm: Tensor,          // (H)
    qkv_proj: Linear,                 // ((N + 2K)·D, H)
    q_norm: Option<Tensor>,           // (D)
    k_norm: Option<Tensor>,           // (D)
    o_proj: Linear,                   // (H, N·D)
    post_attention_layernorm: Tensor, // (H)
    gate_up_proj: Linear,             // (2I, H)
    down_proj: Linear,                // (H, I)
    attention: Attention,
    eps: f64,
    index: usize,
}

/// Where and in which types a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Dtype of the matrices, where they are not left as their file has them.
    pub weights: DType,
    /// Dtype of everything else.
    pub activations: DType,
    /// How matrices are held.
    pub storage: WeightStorage,
    /// Where.
    pub device: Device,
}

/// Rows of one pass as the blocks need them: made once, used by every block.
#[derive(Debug, Clone)]
pub struct Plan {
    segments: Segments,
    angles: Angles,
    frozen: Option<Frozen>,
}

/// Rows that are not in a pass but seen by it.
#[derive(Debug, Clone)]
struct Frozen {
    keys: FrozenKeys,
    /// The `R` rows of the pass, of all rows `T`.
    live: RowSet,
    live_rows: Vec<usize>,
    /// All rows, of the frozen rows followed by those of the pass.
    order: RowSet,
}

/// Keys, rotated, and values of rows that were computed before, for each block from one on. `(frozen, K·D)` each.
#[derive(Debug, Clone)]
pub struct FrozenKeys {
    first: usize,
    blocks: Vec<[Tensor; 2]>,
}

impl FrozenKeys {
    /// Those of some sequences, one after the other, `(blocks, 2, rows, K·D)` each, brought to `device` together; the first is
    /// of block `first`.
    pub fn new(first: usize, sequences: &[Tensor], device: &Device) -> Result<Self> {
        if sequences.is_empty() {
            return Ok(Self { first, blocks: Vec::new() });
        }
        let joined = Tensor::cat(sequences, 2)?.to_device(device)?; // (blocks, 2, frozen, K·D)
        let of = |block: usize, which: usize| -> Result<Tensor> { Ok(joined.get(block)?.get(which)?) };
        let blocks = (0..joined.dim(0)?).map(|block| Ok([of(block, 0)?, of(block, 1)?])).collect::<Result<_>>()?;
        Ok(Self { first, blocks })
    }
}

/// The rows that are queries in a block whose other rows nobody reads.
#[derive(Debug, Clone)]
pub struct Selection {
    segments: Segments,
    rows: RowSet,
    angles: Angles,
}

/// What [`Block::vjp`] needs of the forward pass.
#[derive(Debug, Clone)]
pub struct Saved {
    x: Tensor,               // (T, H)
    qk: Option<[Tensor; 2]>, // before q_norm and k_norm: (Q, N·D), (T, K·D)
    q: Tensor,               // (Q, N·D)
    k: Tensor,               // (T, K·D)
    v: Tensor,               // (T, K·D)
    middle: Tensor,          // (Q, H)
    gate_up: Tensor,         // (Q, 2I)
}

impl Plan {
    /// Runs of rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Positions and runs of `layout` as tensors on `device`.
    pub fn new(layout: &Layout, rope: &Rope, device: &Device) -> Result<Self> {
        let angles = Angles::new(rope, &layout.positions, &layout.lengths, device)?;
        let segments = Segments::new(layout.segments.clone(), layout.rows(), device)?;
        Ok(Self { segments, angles, frozen: None })
    }

    /// Some rows of `layout` alone (ascending; of each run those at its end): the others are seen through their keys and
    /// values.
    pub fn of_rows(layout: &Layout, rows: &[usize], keys: FrozenKeys, rope: &Rope, device: &Device) -> Result<Self> {
        let of_rows = |values: &[usize]| -> Vec<usize> { rows.iter().map(|row| values[*row]).collect() };
        let angles = Angles::new(rope, &of_rows(&layout.positions), &of_rows(&layout.lengths), device)?;
        let (segments, queries) = layout.select(rows);
        debug_assert_eq!(queries, rows);
        let frozen_count = layout.rows() - rows.len();
        let (mut frozen, mut live) = (0..frozen_count, frozen_count..);
        let place = |row: usize| if rows.binary_search(&row).is_ok() { live.next() } else { frozen.next() };
        let order: Vec<usize> = (0..layout.rows()).filter_map(place).collect();
        let (order, live) = (RowSet::new(&order, layout.rows(), device)?, RowSet::new(rows, layout.rows(), device)?);
        let frozen = Some(Frozen { keys, live, live_rows: rows.to_vec(), order });
        let segments = Segments::new(segments, layout.rows(), device)?;
        Ok(Self { segments, angles, frozen })
    }

    /// Keys or values of all rows, given those of the rows of the pass. `(R, K·D)` → `(T, K·D)`; `which` is 0 for keys, 1 for
    /// values.
    fn with_frozen(&self, block: usize, which: usize, of_pass: Tensor) -> Result<Tensor> {
        let Some(frozen) = &self.frozen else { return Ok(of_pass) };
        let known = block.checked_sub(frozen.keys.first).and_then(|at| frozen.keys.blocks.get(at));
        let Some(known) = known else {
            return Err(candle_core::Error::msg(format!("no keys of the frozen rows in block {block}")).into());
        };
        frozen.order.take(&Tensor::cat(&[&known[which], &of_pass], 0)?)
    }

    /// The rows of the pass. `(T, ·)` → `(R, ·)`.
    fn of_pass(&self, of_all: Tensor) -> Result<Tensor> {
        match &self.frozen {
            Some(frozen) => frozen.live.take(&of_all),
            None => Ok(of_all),
        }
    }

    /// The plan's selection of `rows` (ascending) of the same layout, and the rows that it yields: each run's from its
    /// first wanted row to its last.
    pub fn select(&self, layout: &Layout, rows: &[usize], device: &Device) -> Result<(Selection, Vec<usize>)> {
        let (segments, rows) = layout.select(rows);
        let place = |row: &usize| match &self.frozen {
            Some(frozen) => frozen.live_rows.binary_search(row).unwrap_or_else(|at| at),
            None => *row,
        };
        let of_pass: Vec<usize> = rows.iter().map(place).collect();
        let count = self.frozen.as_ref().map_or(layout.rows(), |frozen| frozen.live_rows.len());
        let selected = RowSet::new(&of_pass, count, device)?;
        let segments = Segments::new(segments, layout.rows(), device)?;
        Ok((Selection { segments, angles: self.angles.select(&selected)?, rows: selected }, rows))
    }
}

impl Saved {
    /// Keys, rotated, and values of every row that the block saw. `(T, K·D)` each
    pub fn keys_and_values(&self) -> [&Tensor; 2] {
        [&self.k, &self.v]
    }
}

impl Selection {
    /// Runs of the selected rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    fn selected(&self) -> rope::Selected<'_> {
        (&self.rows, &self.angles)
    }

    /// The selected rows. `(T, ·)` → `(Q, ·)`.
    pub fn take(&self, x: &Tensor) -> Result<Tensor> {
        self.rows.take(x)
    }

    /// The selected rows back in their places, zero elsewhere. `(Q, ·)` → `(T, ·)`.
    pub fn put_back(&self, x: &Tensor) -> Result<Tensor> {
        self.rows.put_back(x)
    }
}

impl Block {
    /// Reads block `index`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than `config` says.
    pub fn load(weights: &Weights, config: &Config, index: usize, options: &LoadOptions) -> Result<Self> {
        let (h, d, inner) = (config.hidden_size, config.head_dim, config.intermediate_size);
        let (q_rows, kv_rows) = (config.num_attention_heads * d, config.num_key_value_heads * d);
        let architecture = &config.architecture;
        let prefix = format!("model.layers.{index}");
        let vector = |name: &str, len| weights.load(&format!("{prefix}.{name}"), &[len], options.activations, &options.device);
        let joined = |parts: &[(&str, usize)], inputs: usize, bias: bool| -> Result<Linear> {
            let matrix = |(name, rows): &(&str, usize)| {
                weights.matrix(
                    &format!("{prefix}.{name}.weight"),
                    [*rows, inputs],
                    options.weights,
                    &options.device,
                    options.storage,
                )
            };
            let weight = Weight::stack(parts.iter().map(matrix).collect::<Result<_>>()?)?;
            let biases = |(name, rows): &(&str, usize)| vector(&format!("{name}.bias"), *rows);
            let bias = bias.then(|| parts.iter().map(biases).collect::<Result<Vec<_>>>()).transpose()?;
            Ok(Linear { weight, bias: bias.map(|parts| Tensor::cat(&parts, 0)).transpose()? })
        };
        let qkv = [("self_attn.q_proj", q_rows), ("self_attn.k_proj", kv_rows), ("self_attn.v_proj", kv_rows)];
        Ok(Self {
            input_layernorm: vector("input_layernorm.weight", h)?,
            qkv_proj: joined(&qkv, h, architecture.qkv_bias)?,
            q_norm: architecture.qk_norm.then(|| vector("self_attn.q_norm.weight", d)).transpose()?,
            k_norm: architecture.qk_norm.then(|| vector("self_attn.k_norm.weight", d)).transpose()?,
            o_proj: joined(&[("self_attn.o_proj", h)], q_rows, architecture.o_bias)?,
            post_attention_layernorm: vector("post_attention_layernorm.weight", h)?,
            gate_up_proj: joined(&[("mlp.gate_proj", inner), ("mlp.up_proj", inner)], h, architecture.mlp_bias)?,
            down_proj: joined(&[("mlp.down_proj", h)], inner, architecture.mlp_bias)?,
            attention: Attention {
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                head_dim: d,
                sliding_window: architecture.windows.get(index).copied().flatten(),
            },
            eps: config.rms_norm_eps,
            index,
        })
    }

    /// Its matrices.
    pub(super) fn weights(&self) -> impl Iterator<Item = &Weight> {
        [&self.qkv_proj, &self.o_proj, &self.gate_up_proj, &self.down_proj].map(|linear| &linear.weight).into_iter()
    }

    /// `x (T, H)` → `(T, H)`, or `(Q, H)` at the selected rows. With a cache, the new keys and values are written to it and
    /// the segments count its rows.
    pub fn forward(
        &self,
        x: &Tensor,
        plan: &Plan,
        selection: Option<&Selection>,
        cache: Option<&mut LayerCache>,
    ) -> Result<(Tensor, Saved)> {
        let segments = selection.map_or(&plan.segments, |selection| &selection.segments);
        let normed = norm::forward(x, &self.input_layernorm, self.eps)?;
        let qkv = self.qkv_proj.forward(&normed)?; // (T, (N + 2K)·D)
        let (qk, [q, k, v]) = self.split(&qkv, plan, selection)?;
        let (k, v) = (plan.with_frozen(self.index, 0, k)?, plan.with_frozen(self.index, 1, v)?);
        let attended = match cache {
            None => self.attention.forward(&q, &k, &v, segments)?,
            Some(cache) => {
                cache.write(&k, &v, &plan.segments)?;
                self.attention.forward(&q, &cache.k, &cache.v, segments)?
            }
        };
        let residual = match selection {
            Some(selection) => selection.take(x)?,
            None => x.clone(),
        };
        let middle = self.o_proj.forward_onto(&residual, &attended)?; // (Q, H)
        let normed = norm::forward(&middle, &self.post_attention_layernorm, self.eps)?;
        let gate_up = self.gate_up_proj.forward(&normed)?; // (Q, 2I)
        let y = self.down_proj.forward_onto(&middle, &swiglu::forward(&gate_up)?)?;
        Ok((y, Saved { x: x.clone(), qk, q, k, v, middle, gate_up }))
    }

    /// Gradient of the block's input, given that of its output. `dy (Q, H)` → `(T, H)`.
    pub fn vjp(&self, saved: &Saved, plan: &Plan, selection: Option<&Selection>, dy: &Tensor) -> Result<Tensor> {
        let segments = selection.map_or(&plan.segments, |selection| &selection.segments);
        let d_gate_up = swiglu::vjp(&saved.gate_up, &self.down_proj.vjp(dy)?)?;
        let d_normed = self.gate_up_proj.vjp(&d_gate_up)?;
        let d_middle = norm::vjp_onto(dy, &saved.middle, &self.post_attention_layernorm, self.eps, &d_normed)?;

        let d_attended = self.o_proj.vjp(&d_middle)?;
        let gradients = self.attention.vjp(&saved.q, &saved.k, &saved.v, segments, &d_attended)?;
        let d_qkv = self.join(saved, plan, selection, gradients)?;
        let d_middle = match selection {
            Some(selection) => selection.put_back(&d_middle)?,
            None => d_middle,
        };
        let d_normed = self.qkv_proj.vjp(&d_qkv)?;
        norm::vjp_onto(&d_middle, &saved.x, &self.input_layernorm, self.eps, &d_normed)
    }

    /// Rotated queries and keys, and values, `qkv (T, (N + 2K)·D)` → `(Q, N·D)`, twice `(T, K·D)`; where the architecture
    /// normalises heads, also what queries and keys were before that.
    fn split(&self, qkv: &Tensor, plan: &Plan, selection: Option<&Selection>) -> Result<(Option<[Tensor; 2]>, [Tensor; 3])> {
        let [q_width, kv_width] = self.widths();
        if self.q_norm.is_none() && self.k_norm.is_none() {
            let selected = selection.map(Selection::selected);
            return Ok((None, rope::split(qkv, [q_width, kv_width], &plan.angles, selected)?));
        }
        let columns = |x: &Tensor, start, width| -> Result<Tensor> { Ok(x.narrow(1, start, width)?.contiguous()?) };
        let (q_before, q_angles) = match selection {
            Some(selection) => (columns(&selection.take(qkv)?, 0, q_width)?, &selection.angles),
            None => (columns(qkv, 0, q_width)?, &plan.angles),
        };
        let k_before = columns(qkv, q_width, kv_width)?;
        let q = rope::forward(&self.norm_heads(&q_before, self.q_norm.as_ref())?, q_angles)?;
        let k = rope::forward(&self.norm_heads(&k_before, self.k_norm.as_ref())?, &plan.angles)?;
        let v = columns(qkv, q_width + kv_width, kv_width)?;
        Ok((Some([q_before, k_before]), [q, k, v]))
    }

    /// The gradient of [`Block::split`]'s `qkv`.
    fn join(&self, saved: &Saved, plan: &Plan, selection: Option<&Selection>, gradients: Gradients) -> Result<Tensor> {
        let (dk, dv) = (plan.of_pass(gradients.k)?, plan.of_pass(gradients.v)?);
        let Some([q_before, k_before]) = &saved.qk else {
            return rope::join([&gradients.q, &dk, &dv], &plan.angles, selection.map(Selection::selected));
        };
        let q_inverse = selection.map_or(&plan.angles, |selection| &selection.angles).inverse();
        let dq = self.norm_heads_vjp(q_before, self.q_norm.as_ref(), &rope::forward(&gradients.q, &q_inverse)?)?;
        let dk = self.norm_heads_vjp(k_before, self.k_norm.as_ref(), &rope::forward(&dk, &plan.angles.inverse())?)?;
        let dq = match selection {
            Some(selection) => selection.put_back(&dq)?,
            None => dq,
        };
        Ok(Tensor::cat(&[dq, dk, dv], 1)?)
    }

    /// Columns of queries, and of keys or values.
    fn widths(&self) -> [usize; 2] {
        [self.attention.heads, self.attention.kv_heads].map(|heads| heads * self.attention.head_dim)
    }

    fn norm_heads(&self, x: &Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
        let Some(weight) = weight else { return Ok(x.clone()) };
        let heads = x.reshape(((), self.attention.head_dim))?;
        Ok(norm::forward(&heads, weight, self.eps)?.reshape(x.shape())?)
    }

    fn norm_heads_vjp(&self, x: &Tensor, weight: Option<&Tensor>, dy: &Tensor) -> Result<Tensor> {
        let Some(weight) = weight else { return Ok(dy.clone()) };
        let heads = |t: &Tensor| t.reshape(((), self.attention.head_dim));
        Ok(norm::vjp(&heads(x)?, weight, self.eps, &heads(dy)?)?.reshape(dy.shape())?)
    }
}
