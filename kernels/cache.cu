// New rows of keys and values to their places in a cache. A block a row.
#include "common.cuh"

// k and v (rows of the pass, width) → cache_k and cache_v (·, width) at `rows`, which are all different.
template <class T>
__device__ void write_rows(const T* k, const T* v, T* cache_k, T* cache_v, const unsigned* rows, unsigned width) {
  size_t from = (size_t)blockIdx.x * width, to = (size_t)rows[blockIdx.x] * width;
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
    cache_k[to + i] = k[from + i];
    cache_v[to + i] = v[from + i];
  }
}

#define CACHE(T, type)                                                                                                      \
  extern "C" __global__ void write_rows_##type(const T* k, const T* v, T* cache_k, T* cache_v, const unsigned* rows,        \
                                               unsigned width) {                                                            \
    write_rows(k, v, cache_k, cache_v, rows, width);                                                                        \
  }                                                                                                                         \
  KERNEL(write_rows_##type)
FOR_EACH_TYPE(CACHE)
