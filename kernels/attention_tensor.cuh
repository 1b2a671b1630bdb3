// The attention of attention.cuh for f16 and bf16 on tensor cores: the same passes, rows and tables, the probabilities rounded
// to the element type before they meet v, as in FlashAttention. 128 threads, four warps; a thread's part of a product is that
// of warp_matrix.cuh: rows g and g + 8 of 16, g = lane / 4. The gradients of heads of more than 128 have kernels of their own:
// what a warp holds of 16 rows there does not fit its registers, and two warps share it.
#pragma once
#include "attention.cuh"
#include "warp_matrix.cuh"

// A tile (ROWS, D) in shared memory, as wide as it is in the tensor: zeros behind `rows` and behind `dim`.
template <class T, unsigned D, unsigned ROWS> struct NarrowTile {
  static const unsigned STRIDE = D + PADDING;
  static const unsigned SIZE = ROWS * STRIDE;

  // By `threads` threads, of which this is the one `thread`; each waits for its copies, then a barrier is due. Eight elements
  // at a time where heads begin at a multiple of that.
  template <class Rows>
  __device__ static void load(T* tile, const T* x, const Rows& of, unsigned rows, unsigned dim, unsigned thread,
                              unsigned threads) {
    const unsigned PARTS = D / 8;
#pragma unroll 4
    for (unsigned part = thread; part < ROWS * PARTS; part += threads) {
      unsigned row = part / PARTS, column = part % PARTS * 8;
      bool is_there = row < rows && column < dim;
      T* to = tile + row * STRIDE + column;
      const T* from = x + of.head(row < rows ? row : 0) * dim + (is_there ? column : 0);
      if (dim % 8 == 0) {
        copy_in_background(to, from, is_there);
      } else {
#pragma unroll 1
        for (unsigned i = 0; i < 8; i++) to[i] = is_there && column + i < dim ? from[i] : narrow<T>(0.0f);
      }
    }
  }
};

// Scales and soft-caps the scores (16, 8·N) of a warp's rows from `first_row` of the tile on and the keys from `first_key` on,
// −∞ where a row does not see a key.
template <bool CAPPED, unsigned N>
__device__ inline void scale_and_mask(float (&s)[N][4], const QueryTile& tile, const Shape& shape, unsigned first_row,
                                      unsigned first_key) {
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (unsigned half = 0; half < 2; half++) {
    unsigned query = (tile.first + min(first_row + g + 8 * half, tile.rows - 1)) / shape.group;
    unsigned begin = visible_begin(tile.segment, query, shape.window), end = visible_end(tile.segment, query);
#pragma unroll
    for (unsigned n = 0; n < N; n++) {
#pragma unroll
      for (unsigned i = 0; i < 2; i++) {
        unsigned key = first_key + 8 * n + 2 * t + i;
        float& score = s[n][2 * half + i];
        score = key >= begin && key < end ? soft_cap<CAPPED>(score * shape.scale, shape.softcap) : -INFINITY;
      }
    }
  }
}

// The scores of the rows g + 8·half, for the running softmax, and back.
template <unsigned N> __device__ inline void take_row(float (&row)[2 * N], const float (&s)[N][4], unsigned half) {
#pragma unroll
  for (unsigned n = 0; n < N; n++) row[2 * n] = s[n][2 * half], row[2 * n + 1] = s[n][2 * half + 1];
}
template <unsigned N> __device__ inline void put_row(float (&s)[N][4], const float (&row)[2 * N], unsigned half) {
#pragma unroll
  for (unsigned n = 0; n < N; n++) s[n][2 * half] = row[2 * n], s[n][2 * half + 1] = row[2 * n + 1];
}

// Writes a warp's products (16, D), each of the two rows times its factor, to the rows of a tile from `first_row` on, columns
// from `first_column` on.
template <unsigned D, class T, class Rows>
__device__ inline void store(T* y, const Rows& of, unsigned first_row, unsigned rows, unsigned dim,
                             const float (&products)[D / 8][4], const float (&factor)[2], unsigned first_column = 0) {
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (unsigned half = 0; half < 2; half++) {
    unsigned at = first_row + g + 8 * half;
    if (at >= rows) continue;
    T* row = y + of.head(at) * dim;
#pragma unroll
    for (unsigned n = 0; n < D / 8; n++) {
#pragma unroll
      for (unsigned i = 0; i < 2; i++) {
        unsigned column = first_column + 8 * n + 2 * t + i;
        if (column < dim) row[column] = narrow<T>(products[n][2 * half + i] * factor[half]);
      }
    }
  }
}

// Rows of queries of a block: 16 for each warp.
const unsigned QUERY_ROWS = 64;

// gridDim (tiles of QUERY_ROWS flat rows of all segments, kv_heads).
template <bool CAPPED, class T, unsigned D, unsigned KEYS>
__device__ void forward_tensor(const T* q, const T* k, const T* v, T* y, const unsigned* segments, const Shape& shape) {
  SHARED_MEMORY;
  using Tile = NarrowTile<T, D, KEYS>;
  using Queries = NarrowTile<T, D, QUERY_ROWS>;
  const unsigned kv_head = blockIdx.y, first_row = threadIdx.x / 32 * 16;
  T *q_tile = reinterpret_cast<T*>(shared), *k_tile = q_tile, *v_tile = k_tile + Tile::SIZE;
  QueryTile tile = query_tile<QUERY_ROWS>(segments, shape);
  FlatRows rows{tile.segment.first_query, tile.first, shape.group, kv_head, shape.kv_heads * shape.group};
  bool works = first_row < tile.rows;
  Queries::load(q_tile, q, rows, tile.rows, shape.dim, threadIdx.x, THREADS);
  wait_for_copies();
  __syncthreads();
  unsigned queries[D / 16][4];
#pragma unroll
  for (unsigned d = 0; d < D / 16; d++) load_left<Queries::STRIDE>(queries[d], q_tile + first_row * Queries::STRIDE, 16 * d);
  Softmax<2> softmax;
  softmax.start();
  float acc[D / 8][4];
  clear(acc);
  for (unsigned key = tile.begin; key < tile.end; key += KEYS) {
    SegmentKeys keys{tile.segment, key, kv_head, shape.kv_heads};
    unsigned count = min(KEYS, tile.end - key);
    __syncthreads();
    Tile::load(k_tile, k, keys, count, shape.dim, threadIdx.x, THREADS);
    Tile::load(v_tile, v, keys, count, shape.dim, threadIdx.x, THREADS);
    wait_for_copies();
    __syncthreads();
    if (!works) continue;
    float s[KEYS / 8][4];
    clear(s);
    multiply_turned<D>(s, queries, k_tile);
    scale_and_mask<CAPPED>(s, tile, shape, first_row, key);
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
      float row[KEYS / 4];
      take_row(row, s, half);
      float shrink = softmax.absorb<4>(row, half);
      put_row(s, row, half);
#pragma unroll
      for (unsigned n = 0; n < D / 8; n++) acc[n][2 * half] *= shrink, acc[n][2 * half + 1] *= shrink;
    }
#pragma unroll
    for (unsigned part = 0; part < KEYS / 16; part++) {
      unsigned p[4];
      as_left<T>(p, s[2 * part], s[2 * part + 1]);
      multiply<D>(acc, p, v_tile + 16 * part * Tile::STRIDE);
    }
  }
  float factor[2] = {1.0f / softmax.sum[0], 1.0f / softmax.sum[1]};
  store<D>(y, rows, first_row, tile.rows, shape.dim, acc, factor);
}

// Takes scores into the running softmax, and δ with them, before it is divided by the sum.
template <unsigned N>
__device__ inline void absorb(Softmax<2>& softmax, float (&delta)[2], const float (&s)[N][4], const float (&dp)[N][4]) {
#pragma unroll
  for (unsigned half = 0; half < 2; half++) {
    float row[2 * N], part = 0.0f;
    take_row(row, s, half);
    float shrink = softmax.absorb<4>(row, half);
    for (unsigned n = 0; n < N; n++) part += row[2 * n] * dp[n][2 * half] + row[2 * n + 1] * dp[n][2 * half + 1];
    delta[half] = delta[half] * shrink + lanes_sum(part, 4);
  }
}

// Scores become their gradients, given those of the probabilities.
template <bool CAPPED, unsigned N>
__device__ inline void score_gradients(float (&s)[N][4], const float (&dp)[N][4], const float (&log_sum)[2],
                                       const float (&delta)[2], const Shape& shape) {
#pragma unroll
  for (unsigned n = 0; n < N; n++)
    for (unsigned i = 0; i < 4; i++) {
      float slope = soft_cap_slope<CAPPED>(s[n][i], shape.softcap);
      s[n][i] = expf(s[n][i] - log_sum[i / 2]) * (dp[n][i] - delta[i / 2]) * slope;
    }
}

// As vjp_q. Grid as forward_tensor's.
template <bool CAPPED, class T, unsigned D, unsigned KEYS>
__device__ void vjp_q_tensor(const T* q, const T* k, const T* v, const T* dy, T* dq, float* log_sums, float* deltas,
                             const unsigned* segments, const Shape& shape) {
  SHARED_MEMORY;
  using Tile = NarrowTile<T, D, KEYS>;
  using Queries = NarrowTile<T, D, QUERY_ROWS>;
  const unsigned kv_head = blockIdx.y, first_row = threadIdx.x / 32 * 16, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  T *row_tile = reinterpret_cast<T*>(shared), *k_tile = row_tile, *v_tile = k_tile + Tile::SIZE;
  QueryTile tile = query_tile<QUERY_ROWS>(segments, shape);
  FlatRows rows{tile.segment.first_query, tile.first, shape.group, kv_head, shape.kv_heads * shape.group};
  bool works = first_row < tile.rows;
  unsigned queries[D / 16][4], gradients[D / 16][4];
  Queries::load(row_tile, q, rows, tile.rows, shape.dim, threadIdx.x, THREADS);
  wait_for_copies();
  __syncthreads();
#pragma unroll
  for (unsigned d = 0; d < D / 16; d++) load_left<Queries::STRIDE>(queries[d], row_tile + first_row * Queries::STRIDE, 16 * d);
  __syncthreads();
  Queries::load(row_tile, dy, rows, tile.rows, shape.dim, threadIdx.x, THREADS);
  wait_for_copies();
  __syncthreads();
#pragma unroll
  for (unsigned d = 0; d < D / 16; d++) load_left<Queries::STRIDE>(gradients[d], row_tile + first_row * Queries::STRIDE, 16 * d);
  Softmax<2> softmax;
  softmax.start();
  float log_sum[2], delta[2] = {0.0f, 0.0f}, acc[D / 8][4];
  clear(acc);
  for (unsigned loop = 0; loop < 2; loop++) {
    for (unsigned key = tile.begin; key < tile.end; key += KEYS) {
      SegmentKeys keys{tile.segment, key, kv_head, shape.kv_heads};
      unsigned count = min(KEYS, tile.end - key);
      __syncthreads();
      Tile::load(k_tile, k, keys, count, shape.dim, threadIdx.x, THREADS);
      Tile::load(v_tile, v, keys, count, shape.dim, threadIdx.x, THREADS);
      wait_for_copies();
      __syncthreads();
      if (!works) continue;
      float s[KEYS / 8][4], dp[KEYS / 8][4];
      clear(s);
      clear(dp);
      multiply_turned<D>(s, queries, k_tile);
      multiply_turned<D>(dp, gradients, v_tile);
      scale_and_mask<CAPPED>(s, tile, shape, first_row, key);
      if (loop == 0) {
        absorb(softmax, delta, s, dp);
        continue;
      }
      score_gradients<CAPPED>(s, dp, log_sum, delta, shape);
#pragma unroll
      for (unsigned part = 0; part < KEYS / 16; part++) {
        unsigned ds[4];
        as_left<T>(ds, s[2 * part], s[2 * part + 1]);
        multiply<D>(acc, ds, k_tile + 16 * part * Tile::STRIDE);
      }
    }
    if (loop == 1 || !works) continue;
    for (unsigned half = 0; half < 2; half++) {
      log_sum[half] = softmax.max[half] + logf(softmax.sum[half]);
      delta[half] /= softmax.sum[half];
      unsigned at = first_row + g + 8 * half;
      if (t == 0 && at < tile.rows) {
        log_sums[rows.head(at)] = log_sum[half];
        deltas[rows.head(at)] = delta[half];
      }
    }
  }
  float factor[2] = {shape.scale, shape.scale};
  store<D>(dq, rows, first_row, tile.rows, shape.dim, acc, factor);
}

// Rows of keys of a block, and of queries that a warp takes at a time.
const unsigned KEY_ROWS = 16;

// Sums the four warps' products (KEY_ROWS, D) in a fixed order and writes them, times `factor`. `sums` holds 4·KEY_ROWS·D.
template <unsigned D, class T>
__device__ inline void store_sum(T* y, const IntervalRows& of, unsigned rows, unsigned dim, const float (&products)[D / 8][4],
                                 float factor, float* sums) {
  const unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  __syncthreads();
#pragma unroll
  for (unsigned n = 0; n < D / 8; n++)
    for (unsigned i = 0; i < 4; i++) sums[(warp * KEY_ROWS + g + i / 2 * 8) * D + 8 * n + 2 * t + i % 2] = products[n][i];
  __syncthreads();
  for (unsigned at = threadIdx.x; at < KEY_ROWS * D; at += THREADS) {
    unsigned row = at / D, column = at % D;
    if (row >= rows || column >= dim) continue;
    float sum = 0.0f;
    for (unsigned part = 0; part < THREADS / 32; part++) sum += sums[part * KEY_ROWS * D + at];
    y[of.head(row) * dim + column] = narrow<T>(sum * factor);
  }
}

// Keys of a block, counted along a segment's sequence, and flat rows of the segment.
struct KeyTile {
  const Segment& segment;
  unsigned first_key, keys, first_row, rows;
};

// Scores (key, query) become probabilities, and the probabilities' gradients those of the scores.
template <bool CAPPED, unsigned N>
__device__ inline void probabilities_and_gradients(float (&p)[N][4], float (&ds)[N][4], const KeyTile& tile, const FlatRows& rows,
                                                   const float* log_sums, const float* deltas, const Shape& shape) {
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (unsigned n = 0; n < N; n++) {
#pragma unroll
    for (unsigned i = 0; i < 2; i++) {
      bool is_row = 8 * n + 2 * t + i < tile.rows;
      unsigned row = is_row ? 8 * n + 2 * t + i : 0, query = (tile.first_row + row) / shape.group;
      unsigned begin = visible_begin(tile.segment, query, shape.window), end = visible_end(tile.segment, query);
      float log_sum = log_sums[rows.head(row)], delta = deltas[rows.head(row)];
#pragma unroll
      for (unsigned half = 0; half < 2; half++) {
        unsigned key = tile.first_key + g + 8 * half;
        bool sees = is_row && g + 8 * half < tile.keys && key >= begin && key < end;
        float &probability = p[n][2 * half + i], &gradient = ds[n][2 * half + i];
        float score = soft_cap<CAPPED>(probability * shape.scale, shape.softcap);
        probability = sees ? expf(score - log_sum) : 0.0f;
        gradient = probability * (gradient - delta) * soft_cap_slope<CAPPED>(score, shape.softcap);
      }
    }
  }
}

// As vjp_kv: a block has KEY_ROWS rows of an interval, and its warps take turns with the tiles of queries that see them.
// gridDim (tiles of KEY_ROWS rows of all intervals, kv_heads).
template <bool CAPPED, class T, unsigned D>
__device__ void vjp_kv_tensor(const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* deltas, T* dk,
                              T* dv, const unsigned* segments, const unsigned* intervals, const unsigned* entries,
                              const Shape& shape) {
  SHARED_MEMORY;
  using Tile = NarrowTile<T, D, KEY_ROWS>;
  const unsigned kv_head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  T *k_tile = reinterpret_cast<T*>(shared), *v_tile = k_tile + Tile::SIZE;
  T *q_tile = v_tile + (1 + 2 * warp) * Tile::SIZE, *dy_tile = q_tile + Tile::SIZE;
  unsigned skipped = blockIdx.x;
  const Interval* interval = reinterpret_cast<const Interval*>(intervals);
  while (skipped >= (interval->rows + KEY_ROWS - 1) / KEY_ROWS) {
    skipped -= (interval->rows + KEY_ROWS - 1) / KEY_ROWS;
    interval++;
  }
  skipped *= KEY_ROWS;
  unsigned key_count = min(KEY_ROWS, interval->rows - skipped);
  IntervalRows key_rows{interval->row + skipped, kv_head, shape.kv_heads};
  Tile::load(k_tile, k, key_rows, key_count, shape.dim, threadIdx.x, THREADS);
  Tile::load(v_tile, v, key_rows, key_count, shape.dim, threadIdx.x, THREADS);
  wait_for_copies();
  __syncthreads();
  float dk_acc[D / 8][4], dv_acc[D / 8][4];
  clear(dk_acc);
  clear(dv_acc);
  unsigned turn = 0;
  for (unsigned at = 0; at < interval->entries; at++) {
    Entry entry = reinterpret_cast<const Entry*>(entries)[interval->first_entry + at];
    Segment segment = reinterpret_cast<const Segment*>(segments)[entry.segment];
    unsigned first_key = entry.position + skipped;
    QueryRange range = queries_that_see(segment, first_key, key_count, shape);
    for (unsigned flat = range.from * shape.group; flat < range.to * shape.group; flat += KEY_ROWS, turn++) {
      if (turn % (THREADS / 32) != warp) continue;
      unsigned count = min(KEY_ROWS, range.to * shape.group - flat);
      FlatRows rows{segment.first_query, flat, shape.group, kv_head, shape.kv_heads * shape.group};
      Tile::load(q_tile, q, rows, count, shape.dim, lane, 32);
      Tile::load(dy_tile, dy, rows, count, shape.dim, lane, 32);
      wait_for_copies();
      __syncwarp();
      float p[2][4], ds[2][4];
      clear(p);
      clear(ds);
#pragma unroll
      for (unsigned d = 0; d < D / 16; d++) {
        unsigned left[4], right[4];
        load_left<Tile::STRIDE>(left, k_tile, 16 * d);
        load_right_turned<Tile::STRIDE>(right, q_tile, 16 * d);
        multiply_add(p[0], left, right[0], right[1], T());
        multiply_add(p[1], left, right[2], right[3], T());
        load_left<Tile::STRIDE>(left, v_tile, 16 * d);
        load_right_turned<Tile::STRIDE>(right, dy_tile, 16 * d);
        multiply_add(ds[0], left, right[0], right[1], T());
        multiply_add(ds[1], left, right[2], right[3], T());
      }
      KeyTile keys{segment, first_key, key_count, flat, count};
      probabilities_and_gradients<CAPPED>(p, ds, keys, rows, log_sums, deltas, shape);
      unsigned left[4];
      as_left<T>(left, p[0], p[1]);
      multiply<D>(dv_acc, left, dy_tile);
      as_left<T>(left, ds[0], ds[1]);
      multiply<D>(dk_acc, left, q_tile);
      __syncwarp();
    }
  }
  store_sum<D>(dk, key_rows, key_count, shape.dim, dk_acc, shape.scale, shared);
  store_sum<D>(dv, key_rows, key_count, shape.dim, dv_acc, 1.0f, shared);
}

// Rows of queries of a block, or of one of its tiles, where warps share them.
const unsigned SHARED_ROWS = 32;

// The products (16, 8·N) of the four warps, each where every thread of the block can read what that of its own lane has.
template <unsigned N> struct Exchange {
  static const unsigned SIZE = THREADS * 4 * N;  // in numbers of f32

  __device__ static void give(float* exchange, const float (&products)[N][4]) {
#pragma unroll
    for (unsigned n = 0; n < N; n++)
      for (unsigned i = 0; i < 4; i++) exchange[(4 * n + i) * THREADS + threadIdx.x] = products[n][i];
  }

  __device__ static void take(float (*products)[4], const float* exchange, unsigned warp) {
#pragma unroll
    for (unsigned n = 0; n < N; n++)
      for (unsigned i = 0; i < 4; i++) products[n][i] = exchange[(4 * n + i) * THREADS + 32 * warp + threadIdx.x % 32];
  }
};

// As vjp_q_tensor for wide heads: two warps share 16 rows. One multiplies the queries with the keys, the other the output's
// gradients with the values; then both have both products, and each makes half of the columns of dq.
// gridDim (tiles of SHARED_ROWS flat rows of all segments, kv_heads).
template <bool CAPPED, class T, unsigned D, unsigned KEYS>
__device__ void vjp_q_shared(const T* q, const T* k, const T* v, const T* dy, T* dq, float* log_sums, float* deltas,
                             const unsigned* segments, const Shape& shape) {
  SHARED_MEMORY;
  using Tile = NarrowTile<T, D, KEYS>;
  using Queries = NarrowTile<T, D, SHARED_ROWS>;
  const unsigned warp = threadIdx.x / 32, second = warp % 2, first_row = warp / 2 * 16;
  const unsigned kv_head = blockIdx.y, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  T *k_tile = reinterpret_cast<T*>(shared), *v_tile = k_tile + Tile::SIZE;
  float* exchange = reinterpret_cast<float*>(v_tile + Tile::SIZE);
  QueryTile tile = query_tile<SHARED_ROWS>(segments, shape);
  FlatRows rows{tile.segment.first_query, tile.first, shape.group, kv_head, shape.kv_heads * shape.group};
  bool works = first_row < tile.rows;
  // Queries and gradients lie where keys and values do later.
  Queries::load(k_tile, q, rows, tile.rows, shape.dim, threadIdx.x, THREADS);
  Queries::load(k_tile + Queries::SIZE, dy, rows, tile.rows, shape.dim, threadIdx.x, THREADS);
  wait_for_copies();
  __syncthreads();
  const T* left_tile = k_tile + second * Queries::SIZE + first_row * Queries::STRIDE;
  unsigned left[D / 16][4];
#pragma unroll
  for (unsigned d = 0; d < D / 16; d++) load_left<Queries::STRIDE>(left[d], left_tile, 16 * d);
  Softmax<2> softmax;
  softmax.start();
  float log_sum[2], delta[2] = {0.0f, 0.0f}, acc[D / 16][4];
  clear(acc);
  for (unsigned loop = 0; loop < 2; loop++) {
    for (unsigned key = tile.begin; key < tile.end; key += KEYS) {
      SegmentKeys keys{tile.segment, key, kv_head, shape.kv_heads};
      unsigned count = min(KEYS, tile.end - key);
      __syncthreads();
      Tile::load(k_tile, k, keys, count, shape.dim, threadIdx.x, THREADS);
      Tile::load(v_tile, v, keys, count, shape.dim, threadIdx.x, THREADS);
      wait_for_copies();
      __syncthreads();
      float s[KEYS / 8][4], dp[KEYS / 8][4];
      clear(s);
      if (works) multiply_turned<D>(s, left, second ? v_tile : k_tile);
      Exchange<KEYS / 8>::give(exchange, s);
      __syncthreads();
      if (!works) continue;
      Exchange<KEYS / 8>::take(s, exchange, warp - second);
      Exchange<KEYS / 8>::take(dp, exchange, warp - second + 1);
      scale_and_mask<CAPPED>(s, tile, shape, first_row, key);
      if (loop == 0) {
        absorb(softmax, delta, s, dp);
        continue;
      }
      score_gradients<CAPPED>(s, dp, log_sum, delta, shape);
#pragma unroll
      for (unsigned part = 0; part < KEYS / 16; part++) {
        unsigned ds[4];
        as_left<T>(ds, s[2 * part], s[2 * part + 1]);
        multiply<D / 2, Tile::STRIDE>(acc, ds, k_tile + 16 * part * Tile::STRIDE + second * D / 2);
      }
    }
    if (loop == 1 || !works) continue;
    for (unsigned half = 0; half < 2; half++) {
      log_sum[half] = softmax.max[half] + logf(softmax.sum[half]);
      delta[half] /= softmax.sum[half];
      unsigned at = first_row + g + 8 * half;
      if (t == 0 && !second && at < tile.rows) {
        log_sums[rows.head(at)] = log_sum[half];
        deltas[rows.head(at)] = delta[half];
      }
    }
  }
  float factor[2] = {shape.scale, shape.scale};
  store<D / 2>(dq, rows, first_row, tile.rows, shape.dim, acc, factor, second * D / 2);
}

// As vjp_kv_tensor for wide heads: the warps share every tile of SHARED_ROWS queries. Of each two warps, one multiplies with the
// first 16 queries and makes the first half of the columns, the other the rest: the first two scores and dv, the last two the
// probabilities' gradients and dk. Grid as vjp_kv_tensor's.
template <bool CAPPED, class T, unsigned D>
__device__ void vjp_kv_shared(const T* q, const T* k, const T* v, const T* dy, const float* log_sums, const float* deltas, T* dk,
                              T* dv, const unsigned* segments, const unsigned* intervals, const unsigned* entries,
                              const Shape& shape) {
  SHARED_MEMORY;
  using Keys = NarrowTile<T, D, KEY_ROWS>;
  using Tile = NarrowTile<T, D, SHARED_ROWS>;
  const unsigned kv_head = blockIdx.y, warp = threadIdx.x / 32, half = warp % 2;
  const bool of_keys = warp / 2 == 1;  // makes dk
  T *q_tile = reinterpret_cast<T*>(shared), *dy_tile = q_tile + Tile::SIZE;
  float* exchange = reinterpret_cast<float*>(dy_tile + Tile::SIZE);
  unsigned skipped = blockIdx.x;
  const Interval* interval = reinterpret_cast<const Interval*>(intervals);
  while (skipped >= (interval->rows + KEY_ROWS - 1) / KEY_ROWS) {
    skipped -= (interval->rows + KEY_ROWS - 1) / KEY_ROWS;
    interval++;
  }
  skipped *= KEY_ROWS;
  unsigned key_count = min(KEY_ROWS, interval->rows - skipped);
  IntervalRows key_rows{interval->row + skipped, kv_head, shape.kv_heads};
  // Keys and values lie where queries and gradients do later.
  Keys::load(q_tile, k, key_rows, key_count, shape.dim, threadIdx.x, THREADS);
  Keys::load(q_tile + Keys::SIZE, v, key_rows, key_count, shape.dim, threadIdx.x, THREADS);
  wait_for_copies();
  __syncthreads();
  unsigned left[D / 16][4];
#pragma unroll
  for (unsigned d = 0; d < D / 16; d++) load_left<Keys::STRIDE>(left[d], q_tile + (of_keys ? Keys::SIZE : 0), 16 * d);
  float acc[D / 16][4];
  clear(acc);
  for (unsigned at = 0; at < interval->entries; at++) {
    Entry entry = reinterpret_cast<const Entry*>(entries)[interval->first_entry + at];
    Segment segment = reinterpret_cast<const Segment*>(segments)[entry.segment];
    unsigned first_key = entry.position + skipped;
    QueryRange range = queries_that_see(segment, first_key, key_count, shape);
    for (unsigned flat = range.from * shape.group; flat < range.to * shape.group; flat += SHARED_ROWS) {
      unsigned count = min(SHARED_ROWS, range.to * shape.group - flat);
      FlatRows rows{segment.first_query, flat, shape.group, kv_head, shape.kv_heads * shape.group};
      __syncthreads();
      Tile::load(q_tile, q, rows, count, shape.dim, threadIdx.x, THREADS);
      Tile::load(dy_tile, dy, rows, count, shape.dim, threadIdx.x, THREADS);
      wait_for_copies();
      __syncthreads();
      float part[2][4], p[4][4], ds[4][4];
      clear(part);
      multiply_turned<D>(part, left, (of_keys ? dy_tile : q_tile) + 16 * half * Tile::STRIDE);
      Exchange<2>::give(exchange, part);
      __syncthreads();
#pragma unroll
      for (unsigned other = 0; other < 2; other++) {
        Exchange<2>::take(p + 2 * other, exchange, other);
        Exchange<2>::take(ds + 2 * other, exchange, 2 + other);
      }
      KeyTile keys{segment, first_key, key_count, flat, count};
      probabilities_and_gradients<CAPPED>(p, ds, keys, rows, log_sums, deltas, shape);
#pragma unroll
      for (unsigned i = 0; i < 2; i++) {
        unsigned factors[4];
        if (of_keys) {
          as_left<T>(factors, ds[2 * i], ds[2 * i + 1]);
        } else {
          as_left<T>(factors, p[2 * i], p[2 * i + 1]);
        }
        const T* right = (of_keys ? q_tile : dy_tile) + 16 * i * Tile::STRIDE + half * D / 2;
        multiply<D / 2, Tile::STRIDE>(acc, factors, right);
      }
    }
  }
  float scale = of_keys ? shape.scale : 1.0f, factor[2] = {scale, scale};
  store<D / 2>(of_keys ? dk : dv, key_rows, 0, key_count, shape.dim, acc, factor, half * D / 2);
}

#define NARROW_KERNELS(T, type, name, D, CAPPED)                                                                            \
  FORWARD_KERNEL(T, type, name, forward_tensor<CAPPED, T, D, 64>)                                                           \
  VJP_Q_KERNEL(T, type, name, vjp_q_tensor<CAPPED, T, D, 32>)                                                               \
  VJP_KV_KERNEL(T, type, name, vjp_kv_tensor<CAPPED, T, D>)

#define TENSOR_KERNELS(T, type, prefix, CAPPED)                                                                             \
  NARROW_KERNELS(T, type, prefix##64, 64, CAPPED)                                                                           \
  NARROW_KERNELS(T, type, prefix##128, 128, CAPPED)                                                                         \
  FORWARD_KERNEL(T, type, prefix##256, forward_tensor<CAPPED, T, 256, 32>)                                                  \
  VJP_Q_KERNEL(T, type, prefix##256, vjp_q_shared<CAPPED, T, 256, 32>)                                                      \
  VJP_KV_KERNEL(T, type, prefix##256, vjp_kv_shared<CAPPED, T, 256>)
