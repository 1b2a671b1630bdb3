// Rows of a matrix in another order. A block a row of the result.
#include "common.cuh"

// x (count, width) → y (·, width): row r is row index[r] of x, or zero where x has no such row.
template <class T> __device__ void take_rows(const T* x, const unsigned* index, T* y, unsigned width, unsigned count) {
  unsigned row = index[blockIdx.x];
  bool is_there = row < count;
  x += is_there ? (size_t)row * width : 0;
  y += (size_t)blockIdx.x * width;
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) y[i] = is_there ? x[i] : narrow<T>(0.0f);
}

#define ROWS(T, type)                                                                                                       \
  extern "C" __global__ void take_rows_##type(const T* x, const unsigned* index, T* y, unsigned width, unsigned count) {    \
    take_rows(x, index, y, width, count);                                                                                   \
  }                                                                                                                         \
  KERNEL(take_rows_##type)
FOR_EACH_TYPE(ROWS)
