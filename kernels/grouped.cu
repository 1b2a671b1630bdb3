// Products of rows with the matrix of the expert that each goes through, all experts of a pass in one launch, and their
// vector-Jacobian products. Rows lie by expert: those of expert e are starts[e]..starts[e + 1]. A block computes some rows of
// one expert at some columns; the grid has as many blocks as there could be, whatever the routing, and the last may have none to
// compute, so that the host need not know it.
#include "warp_matrix.cuh"

// What both bodies take.
template <class T> struct Grouped {
  const T *x, *weights;   // rows of `inner`; of each expert a matrix: (columns, inner), or (inner, columns) for the vjp
  const unsigned* starts; // (experts + 1)
  const unsigned* order;  // which choice each sorted row is
  T* y;                   // (choices, columns), sorted
  unsigned inner, columns, experts;
  unsigned per_token; // sorted row r is row order[r] / per_token of x; where this is 0, row r
};

// The rows of one expert that a block computes; none where there are no more.
struct RowTile {
  unsigned expert, first, rows;
};

template <unsigned ROWS> __device__ inline RowTile row_tile(const unsigned* starts, unsigned experts) {
  unsigned tile = blockIdx.x;
  for (unsigned expert = 0; expert < experts; expert++) {
    unsigned first = starts[expert], rows = starts[expert + 1] - first, tiles = (rows + ROWS - 1) / ROWS;
    if (tile < tiles) return {expert, first + tile * ROWS, min(ROWS, rows - tile * ROWS)};
    tile -= tiles;
  }
  return {0, 0, 0};
}

// Which row of x each row of the tile is, to shared memory: a barrier is due.
template <class T> __device__ inline void find_rows(unsigned* sources, const Grouped<T>& of, const RowTile& tile) {
  for (unsigned row = threadIdx.x; row < tile.rows; row += blockDim.x) {
    sources[row] = of.per_token ? of.order[tile.first + row] / of.per_token : tile.first + row;
  }
}

const unsigned TILE_ROWS = 64;

// f32: 256 threads, each of which sums four rows at four columns. gridDim (tiles of rows, tiles of COLUMNS columns).
struct FullBody {
  static const unsigned COLUMNS = 64, DEPTH = 16, STRIDE = 64 + 4;

  template <bool IS_VJP> __device__ static void run(const Grouped<float>& of) {
    SHARED_MEMORY;
    unsigned* sources = reinterpret_cast<unsigned*>(shared);
    float *left = shared + TILE_ROWS, *right = left + DEPTH * STRIDE; // (DEPTH, rows) and (DEPTH, columns)
    const RowTile tile = row_tile<TILE_ROWS>(of.starts, of.experts);
    if (tile.rows == 0) return;
    const unsigned first_column = blockIdx.y * COLUMNS, tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const float* weight = of.weights + (size_t)tile.expert * of.columns * of.inner;
    find_rows(sources, of, tile);
    float sums[4][4] = {};
    for (unsigned start = 0; start < of.inner; start += DEPTH) {
      __syncthreads();
      for (unsigned row = ty; row < TILE_ROWS; row += 16) {
        bool is_there = row < tile.rows && start + tx < of.inner;
        left[tx * STRIDE + row] = is_there ? of.x[(size_t)sources[row] * of.inner + start + tx] : 0.0f;
      }
      for (unsigned i = threadIdx.x; i < COLUMNS * DEPTH; i += blockDim.x) {
        // Neighbouring threads read neighbouring elements of the matrix.
        unsigned at = IS_VJP ? i / COLUMNS : i % DEPTH, column = IS_VJP ? i % COLUMNS : i / DEPTH;
        size_t row = IS_VJP ? start + at : first_column + column, element = IS_VJP ? first_column + column : start + at;
        bool is_there = start + at < of.inner && first_column + column < of.columns;
        right[at * STRIDE + column] = is_there ? weight[row * (IS_VJP ? of.columns : of.inner) + element] : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (unsigned at = 0; at < DEPTH; at++) {
        float4 a = *reinterpret_cast<const float4*>(left + at * STRIDE + 4 * ty);
        float4 b = *reinterpret_cast<const float4*>(right + at * STRIDE + 4 * tx);
        const float rows[4] = {a.x, a.y, a.z, a.w}, columns[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (unsigned i = 0; i < 4; i++)
          for (unsigned j = 0; j < 4; j++) sums[i][j] += rows[i] * columns[j];
      }
    }
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
      if (4 * ty + i >= tile.rows) break;
      float* row = of.y + (size_t)(tile.first + 4 * ty + i) * of.columns;
      for (unsigned j = 0; j < 4; j++) {
        unsigned column = first_column + 4 * tx + j;
        if (column < of.columns) row[column] = sums[i][j];
      }
    }
  }
};

// Some rows of a matrix at WIDTH columns, in shared memory: zeros where there is nothing.
template <class T, unsigned ROWS, unsigned WIDTH> struct MatrixTile {
  static const unsigned STRIDE = WIDTH + PADDING;
  static const unsigned SIZE = ROWS * STRIDE;

  // The rows that `source` says of a matrix of `width` columns, from `first_column` on. By all threads of the block; each waits
  // for its copies, then a barrier is due. Eight elements at a time where rows begin at a multiple of that.
  template <class Source>
  __device__ static void load(T* tile, const T* matrix, const Source& source, unsigned rows, unsigned first_column,
                              unsigned width) {
    const unsigned PARTS = WIDTH / 8;
#pragma unroll 4
    for (unsigned part = threadIdx.x; part < ROWS * PARTS; part += blockDim.x) {
      unsigned row = part / PARTS, column = part % PARTS * 8;
      bool is_there = row < rows && first_column + column < width;
      T* to = tile + row * STRIDE + column;
      const T* from = matrix + (is_there ? (size_t)source(row) * width + first_column + column : 0);
      if (width % 8 == 0) {
        copy_in_background(to, from, is_there);
      } else {
#pragma unroll 1
        for (unsigned i = 0; i < 8; i++) to[i] = is_there && first_column + column + i < width ? from[i] : narrow<T>(0.0f);
      }
    }
  }
};

// f16 and bf16 on tensor cores: 128 threads, four warps, each of which sums 32 rows at 64 columns, in two parts of 16 rows and eight
// of 8 columns. While a step is multiplied the next one is loaded. gridDim (tiles of rows, tiles of COLUMNS columns).
struct TensorBody {
  static const unsigned COLUMNS = 128, DEPTH = 32;

  template <bool IS_VJP, class T> __device__ static void run(const Grouped<T>& of) {
    SHARED_MEMORY;
    using Left = MatrixTile<T, TILE_ROWS, DEPTH>;
    using Right = MatrixTile<T, IS_VJP ? DEPTH : COLUMNS, IS_VJP ? COLUMNS : DEPTH>;
    unsigned* sources = reinterpret_cast<unsigned*>(shared);
    T* steps = reinterpret_cast<T*>(shared + TILE_ROWS); // two of a left and a right tile
    const RowTile tile = row_tile<TILE_ROWS>(of.starts, of.experts);
    if (tile.rows == 0) return;
    const unsigned first_column = blockIdx.y * COLUMNS;
    const T* weight = of.weights + (size_t)tile.expert * of.columns * of.inner;
    find_rows(sources, of, tile);
    __syncthreads();
    auto load = [&](unsigned step) {
      T* to = steps + step % 2 * (Left::SIZE + Right::SIZE);
      unsigned start = step * DEPTH;
      Left::load(to, of.x, [&](unsigned row) { return sources[row]; }, tile.rows, start, of.inner);
      if (IS_VJP) {
        auto source = [&](unsigned row) { return start + row; };
        Right::load(to + Left::SIZE, weight, source, min(DEPTH, of.inner - start), first_column, of.columns);
      } else {
        auto source = [&](unsigned row) { return first_column + row; };
        Right::load(to + Left::SIZE, weight, source, min(COLUMNS, of.columns - first_column), start, of.inner);
      }
    };
    const unsigned warp = threadIdx.x / 32, warp_row = warp / 2 * 32, warp_column = warp % 2 * 64;
    const unsigned parts = warp_row < tile.rows ? (tile.rows - warp_row + 15) / 16 : 0; // of 16 rows, that have some
    float sums[2][8][4];
    clear(sums[0]), clear(sums[1]);
    const unsigned count = (of.inner + DEPTH - 1) / DEPTH;
    load(0);
    for (unsigned step = 0; step < count; step++) {
      wait_for_copies();
      __syncthreads(); // the step is there, and nobody reads the one before
      if (step + 1 < count) load(step + 1);
      const T *left = steps + step % 2 * (Left::SIZE + Right::SIZE), *right = left + Left::SIZE;
#pragma unroll
      for (unsigned at = 0; at < DEPTH; at += 16) {
        unsigned of_left[2][4];
#pragma unroll
        for (unsigned m = 0; m < 2; m++)
          if (m < parts) load_left<Left::STRIDE>(of_left[m], left + (warp_row + 16 * m) * Left::STRIDE, at);
#pragma unroll
        for (unsigned n = 0; n < 8; n += 2) {
          unsigned of_right[4], column = warp_column + 8 * n;
          if (parts == 0) continue;
          if (IS_VJP) {
            load_right<Right::STRIDE>(of_right, right + at * Right::STRIDE, column);
          } else {
            load_right_turned<Right::STRIDE>(of_right, right + column * Right::STRIDE, at);
          }
#pragma unroll
          for (unsigned m = 0; m < 2; m++) {
            if (m >= parts) continue;
            multiply_add(sums[m][n], of_left[m], of_right[0], of_right[1], T());
            multiply_add(sums[m][n + 1], of_left[m], of_right[2], of_right[3], T());
          }
        }
      }
    }
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (unsigned m = 0; m < 2; m++) {
#pragma unroll
      for (unsigned half = 0; half < 2; half++) {
        unsigned at = warp_row + 16 * m + 8 * half + g;
        if (at >= tile.rows) continue;
        T* row = of.y + (size_t)(tile.first + at) * of.columns;
#pragma unroll
        for (unsigned n = 0; n < 8; n++) {
          for (unsigned i = 0; i < 2; i++) {
            unsigned column = first_column + warp_column + 8 * n + 2 * t + i;
            if (column < of.columns) row[column] = narrow<T>(sums[m][n][2 * half + i]);
          }
        }
      }
    }
  }
};

template <class T> struct BodyOf {
  using Body = TensorBody;
};
template <> struct BodyOf<float> {
  using Body = FullBody;
};

#define PRODUCT(T, type, name, IS_VJP)                                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                                                         \
      name##_##type(const T* x, const T* weights, const unsigned* starts, const unsigned* order, T* y, unsigned inner,      \
                    unsigned columns, unsigned experts, unsigned per_token) {                                               \
    BodyOf<T>::Body::template run<IS_VJP>(Grouped<T>{x, weights, starts, order, y, inner, columns, experts, per_token});    \
  }                                                                                                                         \
  KERNEL(name##_##type)

#define GROUPED(T, type)                                                                                                    \
  PRODUCT(T, type, grouped_product, false)                                                                                  \
  PRODUCT(T, type, grouped_product_vjp, true)
FOR_EACH_TYPE(GROUPED)
