// Matrix products of a warp on tensor cores, for f16 and bf16 with f32 sums: what `mma.sync` m16n8k16 and `ldmatrix` are in
// PTX for compute capability 8.0 on, and their layouts over the threads. host.h has the same for the CPU.
//
// With g = lane / 4 and t = lane % 4 a thread holds
// - of a left factor (16, 16): rows g and g + 8, columns 2t, 2t + 1 and those plus 8;
// - of a right factor (16, 8): rows 2t, 2t + 1 and those plus 8, column g;
// - of a product (16, 8): [0], [1] row g and [2], [3] row g + 8, columns 2t, 2t + 1.
#pragma once
#include "common.cuh"

// Elements of padding of a row in shared memory: the eight rows that ldmatrix reads at a time lie in different banks.
const unsigned PADDING = 8;

__device__ inline void multiply_add(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1, bf16) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
#else
  emulated_multiply_add<bf16>(sum, left, right0, right1);
#endif
}

__device__ inline void multiply_add(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1, f16) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
#else
  emulated_multiply_add<f16>(sum, left, right0, right1);
#endif
}

// Four matrices (8, 8) from shared memory: thread 8·i + r says where row r of matrix i is, and gets of each matrix row g,
// columns 2t and 2t + 1; transposed, rows 2t and 2t + 1 of column g.
template <class T> __device__ inline void load_matrices(unsigned (&to)[4], const T* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
#else
  emulated_load_matrices(to, row, false);
#endif
}

template <class T> __device__ inline void load_matrices_transposed(unsigned (&to)[4], const T* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
#else
  emulated_load_matrices(to, row, true);
#endif
}

// A left factor: 16 rows of a tile, 16 columns from `column` on.
template <unsigned STRIDE, class T> __device__ inline void load_left(unsigned (&to)[4], const T* tile, unsigned column) {
  unsigned lane = threadIdx.x % 32;
  load_matrices(to, tile + lane % 16 * STRIDE + column + lane / 16 * 8);
}

// Two right factors side by side, [0], [1] and [2], [3]: the transpose of 16 rows, 16 columns from `column` on.
template <unsigned STRIDE, class T> __device__ inline void load_right_turned(unsigned (&to)[4], const T* tile, unsigned column) {
  unsigned lane = threadIdx.x % 32;
  load_matrices(to, tile + (lane % 8 + lane / 16 * 8) * STRIDE + column + lane / 8 % 2 * 8);
}

// The same of 16 rows as they are.
template <unsigned STRIDE, class T> __device__ inline void load_right(unsigned (&to)[4], const T* tile, unsigned column) {
  unsigned lane = threadIdx.x % 32;
  load_matrices_transposed(to, tile + lane % 16 * STRIDE + column + lane / 16 * 8);
}

// Two elements in one register, the first in its low half.
template <class T> __device__ inline unsigned pack(float first, float second) {
  return (unsigned)bits_of(narrow<T>(first)) | (unsigned)bits_of(narrow<T>(second)) << 16;
}

// Two products side by side, (16, 16), as a left factor.
template <class T> __device__ inline void as_left(unsigned (&to)[4], const float (&a)[4], const float (&b)[4]) {
  to[0] = pack<T>(a[0], a[1]), to[1] = pack<T>(a[2], a[3]), to[2] = pack<T>(b[0], b[1]), to[3] = pack<T>(b[2], b[3]);
}

// products (16, 8·N) += left (16, D), given in parts of 16 columns, · the transpose of a tile (8·N, D).
template <unsigned D, class T, unsigned N>
__device__ inline void multiply_turned(float (&products)[N][4], const unsigned (&left)[D / 16][4], const T* tile) {
#pragma unroll
  for (unsigned d = 0; d < D / 16; d++) {
#pragma unroll
    for (unsigned n = 0; n < N; n += 2) {
      unsigned right[4];
      load_right_turned<D + PADDING>(right, tile + 8 * n * (D + PADDING), 16 * d);
      multiply_add(products[n], left[d], right[0], right[1], T());
      multiply_add(products[n + 1], left[d], right[2], right[3], T());
    }
  }
}

// products (16, D) += left (16, 16) · D columns of a tile of 16 rows, each of them STRIDE elements behind the one before.
template <unsigned D, unsigned STRIDE = D + PADDING, class T>
__device__ inline void multiply(float (&products)[D / 8][4], const unsigned (&left)[4], const T* tile) {
#pragma unroll
  for (unsigned n = 0; n < D / 8; n += 2) {
    unsigned right[4];
    load_right<STRIDE>(right, tile, 8 * n);
    multiply_add(products[n], left, right[0], right[1], T());
    multiply_add(products[n + 1], left, right[2], right[3], T());
  }
}

template <unsigned N> __device__ inline void clear(float (&products)[N][4]) {
#pragma unroll
  for (unsigned n = 0; n < N; n++)
    for (unsigned i = 0; i < 4; i++) products[n][i] = 0.0f;
}
