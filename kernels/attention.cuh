// Causal attention with grouped queries, forward and vector-Jacobian product, the scores never in memory: softmax over tiles
// of keys with a running maximum (FlashAttention, arXiv 2205.14135). The vjp keeps nothing of the forward pass: it takes the
// log-sum-exp and δ = Σ p·dp of each row in a first loop over the keys, then recomputes the probabilities.
//
// Rows of a tile are (query, head of the group) pairs of one segment, "flat rows": f is query f / group, head f % group.
// 128 threads as 8 × 16: thread (ty, tx) has rows ty·ROWS/8.. and keys tx, tx + 16, … of a score tile, and of a result
// (rows, D) the columns 4·tx.., 64 + 4·tx..
//
// Included by two files for each element type, without and with soft-capped scores: the driver compiles a file as a whole when
// its first kernel is used.
#pragma once
#include "common.cuh"

const unsigned THREADS = 128;

// As src/ops/cuda/segment_tables.rs writes them.
struct Segment {
  unsigned first_query, queries;
  unsigned first_end;  // keys that the first query sees, one more for each query behind it; without a window
  unsigned start[2], len[2], own;  // rows of k and v: two runs of context, then the run itself
};

// Rows of k and v that each segment sees all of or none of, and the entries of those that do.
struct Interval {
  unsigned row, rows, first_entry, entries;
};

struct Entry {
  unsigned segment;
  unsigned position;  // of the interval's first row in the segment's sequence
};

struct Shape {
  unsigned kv_heads, group, dim, window;
  float scale, softcap;  // 0: no softcap
};

__device__ inline unsigned key_row(const Segment& segment, unsigned position) {
  if (position < segment.len[0]) return segment.start[0] + position;
  position -= segment.len[0];
  return position < segment.len[1] ? segment.start[1] + position : segment.own + position - segment.len[1];
}

// Keys that a query sees: from `begin` to `end`, counted along the segment's sequence.
__device__ inline unsigned visible_end(const Segment& segment, unsigned query) { return segment.first_end + query; }
__device__ inline unsigned visible_begin(const Segment& segment, unsigned query, unsigned window) {
  unsigned end = visible_end(segment, query);
  return end > window ? end - window : 0;
}

// Elements of the heads that a tile's rows are: where row `at` of the tile begins in a tensor (rows, heads·D).
struct FlatRows {
  unsigned first_query, first, group, kv_head, heads;
  __device__ size_t head(unsigned at) const {
    unsigned flat = first + at;
    return (size_t)(first_query + flat / group) * heads + kv_head * group + flat % group;
  }
};

struct SegmentKeys {
  Segment segment;
  unsigned first, kv_head, kv_heads;
  __device__ size_t head(unsigned at) const { return (size_t)key_row(segment, first + at) * kv_heads + kv_head; }
};

struct IntervalRows {
  unsigned first, kv_head, kv_heads;
  __device__ size_t head(unsigned at) const { return (size_t)(first + at) * kv_heads + kv_head; }
};

// A tile (ROWS, D) in shared memory: zeros behind `rows` and behind `dim`; four numbers of padding keep banks apart.
template <unsigned D, unsigned ROWS> struct TileOf {
  static const unsigned STRIDE = D + 4;
  static const unsigned SIZE = ROWS * STRIDE;

  template <class T, class Rows>
  __device__ static void load(float* tile, const T* x, const Rows& of, unsigned rows, unsigned dim) {
#pragma unroll 2
    for (unsigned row = threadIdx.x / 32; row < ROWS; row += THREADS / 32) {
      const T* from = x + of.head(row < rows ? row : 0) * dim;
#pragma unroll
      for (unsigned column = threadIdx.x % 32; column < D; column += 32) {
        tile[row * STRIDE + column] = row < rows && column < dim ? widen(from[column]) : 0.0f;
      }
    }
  }
};

// Four numbers of shared memory in one load. nvcc takes the plain form apart and puts it together again in an order that
// depends on the addresses of its own objects: the PTX would not be the same each time.
__device__ inline float4 four(const float* x) {
#ifdef __CUDACC__
  float4 y;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(y.x), "=f"(y.y), "=f"(y.z), "=f"(y.w)
               : "r"((unsigned)__cvta_generic_to_shared(x))
               : "memory");
  return y;
#else
  return *reinterpret_cast<const float4*>(x);
#endif
}

// s[i][j] = a[row ty·M + i] · b[row tx + 16·j]; b has B_ROWS rows, scores of rows behind them mean nothing.
template <unsigned D, unsigned B_ROWS, unsigned M, unsigned N>
__device__ inline void scores(const float* a, const float* b, float (&s)[M][N]) {
  const unsigned STRIDE = D + 4, ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (unsigned i = 0; i < M; i++)
    for (unsigned j = 0; j < N; j++) s[i][j] = 0.0f;
#pragma unroll 2
  for (unsigned d = 0; d < D; d += 4) {
    float4 y[N];
#pragma unroll
    for (unsigned j = 0; j < N; j++) y[j] = four(b + (tx + 16 * j) % B_ROWS * STRIDE + d);
#pragma unroll
    for (unsigned i = 0; i < M; i++) {
      float4 x = four(a + (ty * M + i) * STRIDE + d);
#pragma unroll
      for (unsigned j = 0; j < N; j++) s[i][j] += x.x * y[j].x + x.y * y[j].y + x.z * y[j].z + x.w * y[j].w;
    }
  }
}

// Writes a thread's scores as a tile (8·M, COLUMNS).
template <unsigned COLUMNS, unsigned M, unsigned N> __device__ inline void store_scores(float* tile, const float (&s)[M][N]) {
  const unsigned ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (unsigned i = 0; i < M; i++)
    for (unsigned j = 0; j < N; j++)
      if (tx + 16 * j < COLUMNS) tile[(ty * M + i) * (COLUMNS + 4) + tx + 16 * j] = s[i][j];
}

// acc (rows of ty, columns of tx) += p (8·M, INNER) · b (INNER, D).
template <unsigned D, unsigned INNER, unsigned M>
__device__ inline void accumulate(float4 (&acc)[M][D / 64], const float* p, const float* b) {
  const unsigned STRIDE = D + 4, ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll 1
  for (unsigned k = 0; k < INNER; k += 4) {
    float4 x[M];
#pragma unroll
    for (unsigned i = 0; i < M; i++) x[i] = four(p + (ty * M + i) * (INNER + 4) + k);
#pragma unroll
    for (unsigned c = 0; c < D / 64; c++) {
      float4 y0 = four(b + k * STRIDE + 64 * c + 4 * tx), y1 = four(b + (k + 1) * STRIDE + 64 * c + 4 * tx);
      float4 y2 = four(b + (k + 2) * STRIDE + 64 * c + 4 * tx), y3 = four(b + (k + 3) * STRIDE + 64 * c + 4 * tx);
#pragma unroll
      for (unsigned i = 0; i < M; i++) {
        acc[i][c].x += x[i].x * y0.x + x[i].y * y1.x + x[i].z * y2.x + x[i].w * y3.x;
        acc[i][c].y += x[i].x * y0.y + x[i].y * y1.y + x[i].z * y2.y + x[i].w * y3.y;
        acc[i][c].z += x[i].x * y0.z + x[i].y * y1.z + x[i].z * y2.z + x[i].w * y3.z;
        acc[i][c].w += x[i].x * y0.w + x[i].y * y1.w + x[i].z * y2.w + x[i].w * y3.w;
      }
    }
  }
}

template <unsigned M, unsigned G> __device__ inline void clear(float4 (&acc)[M][G]) {
  for (unsigned i = 0; i < M; i++)
    for (unsigned c = 0; c < G; c++) acc[i][c] = float4{0.0f, 0.0f, 0.0f, 0.0f};
}

// Writes a thread's results, times `factor[i]`, to the first `rows` rows of the heads `of`.
template <class T, unsigned M, unsigned G, class Rows>
__device__ inline void store(T* y, const Rows& of, unsigned rows, unsigned dim, const float4 (&acc)[M][G],
                             const float (&factor)[M]) {
  const unsigned ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (unsigned i = 0; i < M; i++) {
    if (ty * M + i >= rows) continue;
    T* row = y + of.head(ty * M + i) * dim;
#pragma unroll
    for (unsigned c = 0; c < G; c++) {
      float values[4] = {acc[i][c].x, acc[i][c].y, acc[i][c].z, acc[i][c].w};
#pragma unroll
      for (unsigned n = 0; n < 4; n++) {
        unsigned column = 64 * c + 4 * tx + n;
        if (column < dim) row[column] = narrow<T>(values[n] * factor[i]);
      }
    }
  }
}

// A block's tile of flat rows: which segment, from where, how many; and the keys that any of them sees.
struct QueryTile {
  Segment segment;
  unsigned first, rows, begin, end;
};

template <unsigned ROWS>
__device__ inline QueryTile query_tile(const unsigned* segments, const Shape& shape) {
  unsigned tile = blockIdx.x;
  const Segment* segment = reinterpret_cast<const Segment*>(segments);
  while (true) {
    unsigned tiles = (segment->queries * shape.group + ROWS - 1) / ROWS;
    if (tile < tiles) break;
    tile -= tiles;
    segment++;
  }
  QueryTile of;
  of.segment = *segment;
  of.first = tile * ROWS;
  of.rows = min(ROWS, segment->queries * shape.group - of.first);
  of.begin = visible_begin(of.segment, of.first / shape.group, shape.window);
  of.end = visible_end(of.segment, (of.first + of.rows - 1) / shape.group);
  return of;
}

// Running softmax of a thread's rows over the keys seen so far.
template <unsigned M> struct Softmax {
  float max[M], sum[M];

  __device__ void start() {
    for (unsigned i = 0; i < M; i++) max[i] = -INFINITY, sum[i] = 0.0f;
  }

  // Scores of row i, −∞ where not seen, become exp(s − max); LANES neighbours have the row together. Returns by how much what
  // was summed before must shrink.
  template <unsigned LANES, unsigned N> __device__ float absorb(float (&s)[N], unsigned i) {
    float most = s[0];
    for (unsigned j = 1; j < N; j++) most = fmaxf(most, s[j]);
    most = fmaxf(max[i], lanes_max(most, LANES));
    bool nothing = most == -INFINITY;
    float shrink = nothing ? 1.0f : expf(max[i] - most), part = 0.0f;
    for (unsigned j = 0; j < N; j++) {
      s[j] = nothing ? 0.0f : expf(s[j] - most);
      part += s[j];
    }
    max[i] = most;
    sum[i] = sum[i] * shrink + lanes_sum(part, LANES);
    return shrink;
  }
};

// Scales and soft-caps the scores of a tile of rows and the keys from `first_key` on, −∞ where a row does not see a key.
template <bool CAPPED, unsigned KEYS, unsigned M, unsigned N>
__device__ inline void scale_and_mask(float (&s)[M][N], const QueryTile& tile, const Shape& shape, unsigned first_key) {
  const unsigned ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (unsigned i = 0; i < M; i++) {
    unsigned query = (tile.first + min(ty * M + i, tile.rows - 1)) / shape.group;
    unsigned begin = visible_begin(tile.segment, query, shape.window), end = visible_end(tile.segment, query);
    for (unsigned j = 0; j < N; j++) {
      unsigned key = first_key + tx + 16 * j;
      bool sees = tx + 16 * j < KEYS && key >= begin && key < end;
      s[i][j] = sees ? soft_cap<CAPPED>(s[i][j] * shape.scale, shape.softcap) : -INFINITY;
    }
  }
}

// Scores become their gradients, given those of the probabilities.
template <bool CAPPED, unsigned M, unsigned N>
__device__ inline void score_gradients(float (&s)[M][N], const float (&dp)[M][N], const float (&log_sum)[M],
                                       const float (&delta)[M], const Shape& shape) {
  for (unsigned i = 0; i < M; i++) {
    for (unsigned j = 0; j < N; j++) {
      float slope = soft_cap_slope<CAPPED>(s[i][j], shape.softcap);
      s[i][j] = expf(s[i][j] - log_sum[i]) * (dp[i][j] - delta[i]) * slope;
    }
  }
}

// gridDim (tiles of ROWS flat rows of all segments, kv_heads).
template <bool CAPPED, class T, unsigned D, unsigned ROWS, unsigned KEYS>
__device__ void forward(const T* q, const T* k, const T* v, T* y, const unsigned* segments, const Shape& shape) {
  SHARED_MEMORY;
  const unsigned M = ROWS / 8, N = (KEYS + 15) / 16, kv_head = blockIdx.y;
  float *q_tile = shared, *kv_tile = q_tile + TileOf<D, ROWS>::SIZE, *p_tile = kv_tile + TileOf<D, KEYS>::SIZE;
  QueryTile tile = query_tile<ROWS>(segments, shape);
  FlatRows rows{tile.segment.first_query, tile.first, shape.group, kv_head, shape.kv_heads * shape.group};
  TileOf<D, ROWS>::load(q_tile, q, rows, tile.rows, shape.dim);
  Softmax<M> softmax;
  softmax.start();
  float4 acc[M][D / 64];
  clear(acc);
  for (unsigned key = tile.begin; key < tile.end; key += KEYS) {
    SegmentKeys keys{tile.segment, key, kv_head, shape.kv_heads};
    unsigned count = min(KEYS, tile.end - key);
    __syncthreads();
    TileOf<D, KEYS>::load(kv_tile, k, keys, count, shape.dim);
    __syncthreads();
    float s[M][N];
    scores<D, KEYS>(q_tile, kv_tile, s);
    scale_and_mask<CAPPED, KEYS>(s, tile, shape, key);
    for (unsigned i = 0; i < M; i++) {
      float shrink = softmax.template absorb<16>(s[i], i);
      for (unsigned c = 0; c < D / 64; c++) {
        acc[i][c].x *= shrink, acc[i][c].y *= shrink, acc[i][c].z *= shrink, acc[i][c].w *= shrink;
      }
    }
    store_scores<KEYS>(p_tile, s);
    __syncthreads();
    TileOf<D, KEYS>::load(kv_tile, v, keys, count, shape.dim);
    __syncthreads();
    accumulate<D, KEYS>(acc, p_tile, kv_tile);
  }
  float factor[M];
  for (unsigned i = 0; i < M; i++) factor[i] = 1.0f / softmax.sum[i];
  store(y, rows, tile.rows, shape.dim, acc, factor);
}

// dq, and of each row and head the log-sum-exp of its scores and δ = Σ p·dp, which vjp_kv takes. Grid as forward's.
template <bool CAPPED, class T, unsigned D, unsigned ROWS>
__device__ void vjp_q(const T* q, const T* k, const T* v, const T* dy, T* dq, float* log_sums, float* deltas,
                      const unsigned* segments, const Shape& shape) {
  SHARED_MEMORY;
  const unsigned M = ROWS / 8, N = (ROWS + 15) / 16, kv_head = blockIdx.y, ty = threadIdx.x / 16;
  using Tile = TileOf<D, ROWS>;
  float *q_tile = shared, *dy_tile = q_tile + Tile::SIZE, *k_tile = dy_tile + Tile::SIZE, *v_tile = k_tile + Tile::SIZE;
  float* ds_tile = v_tile + Tile::SIZE;
  QueryTile tile = query_tile<ROWS>(segments, shape);
  FlatRows rows{tile.segment.first_query, tile.first, shape.group, kv_head, shape.kv_heads * shape.group};
  Tile::load(q_tile, q, rows, tile.rows, shape.dim);
  Tile::load(dy_tile, dy, rows, tile.rows, shape.dim);
  Softmax<M> softmax;
  softmax.start();
  float log_sum[M], delta[M], s[M][N], dp[M][N];
  for (unsigned i = 0; i < M; i++) delta[i] = 0.0f;
  float4 acc[M][D / 64];
  clear(acc);
  for (unsigned loop = 0; loop < 2; loop++) {
    for (unsigned key = tile.begin; key < tile.end; key += ROWS) {
      SegmentKeys keys{tile.segment, key, kv_head, shape.kv_heads};
      unsigned count = min(ROWS, tile.end - key);
      __syncthreads();
      Tile::load(k_tile, k, keys, count, shape.dim);
      Tile::load(v_tile, v, keys, count, shape.dim);
      __syncthreads();
      scores<D, ROWS>(q_tile, k_tile, s);
      scores<D, ROWS>(dy_tile, v_tile, dp);
      scale_and_mask<CAPPED, ROWS>(s, tile, shape, key);
      if (loop == 0) {
        for (unsigned i = 0; i < M; i++) {
          float shrink = softmax.template absorb<16>(s[i], i), part = 0.0f;
          for (unsigned j = 0; j < N; j++) part += s[i][j] * dp[i][j];
          delta[i] = delta[i] * shrink + lanes_sum(part, 16);
        }
        continue;
      }
      score_gradients<CAPPED>(s, dp, log_sum, delta, shape);
      store_scores<ROWS>(ds_tile, s);
      __syncthreads();
      accumulate<D, ROWS>(acc, ds_tile, k_tile);
    }
    if (loop == 0) {
      for (unsigned i = 0; i < M; i++) {
        log_sum[i] = softmax.max[i] + logf(softmax.sum[i]);
        delta[i] /= softmax.sum[i];
        if (threadIdx.x % 16 == 0 && ty * M + i < tile.rows) {
          log_sums[rows.head(ty * M + i)] = log_sum[i];
          deltas[rows.head(ty * M + i)] = delta[i];
        }
      }
    }
  }
  float factor[M];
  for (unsigned i = 0; i < M; i++) factor[i] = shape.scale;
  store(dq, rows, tile.rows, shape.dim, acc, factor);
}

// Queries of a segment that see any of `count` keys from `first` on, counted along its sequence: from the first that sees the
// first key to the one behind the last whose window still reaches the last key.
struct QueryRange {
  unsigned from, to;
};

__device__ inline QueryRange queries_that_see(const Segment& segment, unsigned first, unsigned count, const Shape& shape) {
  long long behind = (long long)first + count + shape.window - segment.first_end;
  return QueryRange{first + 1 > segment.first_end ? first + 1 - segment.first_end : 0,
                    behind < 0 ? 0 : behind < segment.queries ? (unsigned)behind : segment.queries};
}

// dk and dv of a tile of rows of an interval: a loop over the queries that see it, segment by segment, so that nothing is
// added to memory by two blocks. gridDim (tiles of ROWS rows of all intervals, kv_heads). Scores are (key, query) here.
template <bool CAPPED, class T, unsigned D, unsigned ROWS>
__device__ void vjp_kv(const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* deltas, T* dk,
                       T* dv, const unsigned* segments, const unsigned* intervals, const unsigned* entries,
                       const Shape& shape) {
  SHARED_MEMORY;
  const unsigned M = ROWS / 8, N = (ROWS + 15) / 16, kv_head = blockIdx.y, ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  using Tile = TileOf<D, ROWS>;
  float *k_tile = shared, *v_tile = k_tile + Tile::SIZE, *q_tile = v_tile + Tile::SIZE, *dy_tile = q_tile + Tile::SIZE;
  float *p_tile = dy_tile + Tile::SIZE, *ds_tile = p_tile + ROWS * (ROWS + 4);
  unsigned skipped = blockIdx.x;
  const Interval* interval = reinterpret_cast<const Interval*>(intervals);
  while (skipped >= (interval->rows + ROWS - 1) / ROWS) {
    skipped -= (interval->rows + ROWS - 1) / ROWS;
    interval++;
  }
  skipped *= ROWS;
  unsigned key_count = min(ROWS, interval->rows - skipped);
  IntervalRows key_rows{interval->row + skipped, kv_head, shape.kv_heads};
  Tile::load(k_tile, k, key_rows, key_count, shape.dim);
  Tile::load(v_tile, v, key_rows, key_count, shape.dim);
  float4 dk_acc[M][D / 64], dv_acc[M][D / 64];
  clear(dk_acc);
  clear(dv_acc);
  for (unsigned at = 0; at < interval->entries; at++) {
    Entry entry = reinterpret_cast<const Entry*>(entries)[interval->first_entry + at];
    Segment segment = reinterpret_cast<const Segment*>(segments)[entry.segment];
    unsigned first_key = entry.position + skipped;
    QueryRange range = queries_that_see(segment, first_key, key_count, shape);
    for (unsigned flat = range.from * shape.group; flat < range.to * shape.group; flat += ROWS) {
      unsigned count = min(ROWS, range.to * shape.group - flat);
      FlatRows rows{segment.first_query, flat, shape.group, kv_head, shape.kv_heads * shape.group};
      __syncthreads();
      Tile::load(q_tile, q, rows, count, shape.dim);
      Tile::load(dy_tile, dy, rows, count, shape.dim);
      __syncthreads();
      float p[M][N], ds[M][N];
      scores<D, ROWS>(k_tile, q_tile, p);
      scores<D, ROWS>(v_tile, dy_tile, ds);
      for (unsigned j = 0; j < N; j++) {
        bool is_row = tx + 16 * j < count;
        unsigned row = is_row ? tx + 16 * j : 0, query = (flat + row) / shape.group;
        unsigned begin = visible_begin(segment, query, shape.window), end = visible_end(segment, query);
        float log_sum = log_sums[rows.head(row)], delta = deltas[rows.head(row)];
        for (unsigned i = 0; i < M; i++) {
          unsigned key = first_key + ty * M + i;
          bool sees = is_row && ty * M + i < key_count && key >= begin && key < end;
          float score = soft_cap<CAPPED>(p[i][j] * shape.scale, shape.softcap);
          p[i][j] = sees ? expf(score - log_sum) : 0.0f;
          ds[i][j] = p[i][j] * (ds[i][j] - delta) * soft_cap_slope<CAPPED>(score, shape.softcap);
        }
      }
      store_scores<ROWS>(p_tile, p);
      store_scores<ROWS>(ds_tile, ds);
      __syncthreads();
      accumulate<D, ROWS>(dv_acc, p_tile, dy_tile);
      accumulate<D, ROWS>(dk_acc, ds_tile, q_tile);
    }
  }
  float one[M], factor[M];
  for (unsigned i = 0; i < M; i++) one[i] = 1.0f, factor[i] = shape.scale;
  store(dk, key_rows, key_count, shape.dim, dk_acc, factor);
  store(dv, key_rows, key_count, shape.dim, dv_acc, one);
}

// A kernel's parameters, and what it calls. Names have D, the head dimension rounded up, behind `capped_` where there is a
// softcap.
#define FORWARD_KERNEL(T, type, name, ...)                                                                                  \
  extern "C" __global__ void __launch_bounds__(128) attention_##name##_##type(                                              \
      const T* q, const T* k, const T* v, T* y, const unsigned* segments, unsigned kv_heads, unsigned group, unsigned dim,  \
      unsigned window, float scale, float softcap) {                                                                        \
    __VA_ARGS__(q, k, v, y, segments, Shape{kv_heads, group, dim, window, scale, softcap});                                 \
  }                                                                                                                         \
  KERNEL(attention_##name##_##type)

#define VJP_Q_KERNEL(T, type, name, ...)                                                                                    \
  extern "C" __global__ void __launch_bounds__(128) attention_vjp_q_##name##_##type(                                        \
      const T* q, const T* k, const T* v, const T* dy, T* dq, float* log_sums, float* deltas, const unsigned* segments,     \
      unsigned kv_heads, unsigned group, unsigned dim, unsigned window, float scale, float softcap) {                       \
    __VA_ARGS__(q, k, v, dy, dq, log_sums, deltas, segments, Shape{kv_heads, group, dim, window, scale, softcap});          \
  }                                                                                                                         \
  KERNEL(attention_vjp_q_##name##_##type)

#define VJP_KV_KERNEL(T, type, name, ...)                                                                                   \
  extern "C" __global__ void __launch_bounds__(128) attention_vjp_kv_##name##_##type(                                       \
      const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* deltas, T* dk, T* dv,            \
      const unsigned* segments, const unsigned* intervals, const unsigned* entries, unsigned kv_heads, unsigned group,      \
      unsigned dim, unsigned window, float scale, float softcap) {                                                          \
    __VA_ARGS__(q, k, v, dy, log_sums, deltas, dk, dv, segments, intervals, entries,                                        \
                Shape{kv_heads, group, dim, window, scale, softcap});                                                       \
  }                                                                                                                         \
  KERNEL(attention_vjp_kv_##name##_##type)

// The tiles of the widest heads are what fits 48 KiB; src/ops/cuda/attention.rs has the same numbers. The kernels "few" are for
// segments of few queries each, as the branches of a sweep.
#define F32_KERNELS(prefix, CAPPED)                                                                                         \
  FORWARD_KERNEL(float, f32, prefix##64, forward<CAPPED, float, 64, 32, 32>)                                                \
  FORWARD_KERNEL(float, f32, prefix##128, forward<CAPPED, float, 128, 32, 32>)                                              \
  FORWARD_KERNEL(float, f32, few_##prefix##64, forward<CAPPED, float, 64, 8, 32>)                                           \
  FORWARD_KERNEL(float, f32, few_##prefix##128, forward<CAPPED, float, 128, 8, 32>)                                         \
  VJP_Q_KERNEL(float, f32, prefix##64, vjp_q<CAPPED, float, 64, 32>)                                                        \
  VJP_Q_KERNEL(float, f32, prefix##128, vjp_q<CAPPED, float, 128, 16>)                                                      \
  VJP_KV_KERNEL(float, f32, prefix##64, vjp_kv<CAPPED, float, 64, 32>)                                                      \
  VJP_KV_KERNEL(float, f32, prefix##128, vjp_kv<CAPPED, float, 128, 16>)                                                    \
  FORWARD_KERNEL(float, f32, prefix##256, forward<CAPPED, float, 256, 16, 16>)                                              \
  VJP_Q_KERNEL(float, f32, prefix##256, vjp_q<CAPPED, float, 256, 8>)                                                       \
  VJP_KV_KERNEL(float, f32, prefix##256, vjp_kv<CAPPED, float, 256, 8>)
