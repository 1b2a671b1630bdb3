// Rotary position embedding, half-split. A block a row; the gradient goes through the same kernels with −sin.
#include "common.cuh"

// A rotated pair of row x to row y; both begin where the head of the pair does.
template <class T> __device__ inline void rotate(const T* x, T* y, float cos, float sin, unsigned i, unsigned pairs) {
  float x1 = widen(x[i]), x2 = widen(x[i + pairs]);
  y[i] = narrow<T>(x1 * cos - x2 * sin);
  y[i + pairs] = narrow<T>(x2 * cos + x1 * sin);
}

// x (rows, stride), cos and sin (rows, pairs) f32 → y (rows, width) from the columns that begin at `column`.
template <class T>
__device__ void rope(const T* x, const float* cos, const float* sin, T* y, unsigned stride, unsigned column, unsigned width,
                     unsigned pairs) {
  size_t row = blockIdx.x;
  for (unsigned pair = threadIdx.x; pair < width / 2; pair += blockDim.x) {
    unsigned i = pair % pairs, head = pair / pairs * 2 * pairs;
    rotate(x + row * stride + column + head, y + row * width + head, cos[row * pairs + i], sin[row * pairs + i], i, pairs);
  }
}

// Rows [q | k | v] → q and k rotated, v as it is, each by itself.
template <class T>
__device__ void rope_split(const T* x, const float* cos, const float* sin, T* q, T* k, T* v, unsigned q_width,
                           unsigned kv_width, unsigned pairs) {
  size_t row = blockIdx.x;
  x += row * (q_width + 2 * kv_width);
  for (unsigned pair = threadIdx.x; pair < (q_width + kv_width) / 2; pair += blockDim.x) {
    unsigned i = pair % pairs, head = pair / pairs * 2 * pairs;
    T* y = head < q_width ? q + row * q_width + head : k + row * kv_width + head - q_width;
    rotate(x + head, y, cos[row * pairs + i], sin[row * pairs + i], i, pairs);
  }
  for (unsigned i = threadIdx.x; i < kv_width; i += blockDim.x) v[row * kv_width + i] = x[q_width + kv_width + i];
}

// The reverse: q and k rotated, v as it is → rows [q | k | v].
template <class T>
__device__ void rope_join(const T* q, const T* k, const T* v, const float* cos, const float* sin, T* y, unsigned q_width,
                          unsigned kv_width, unsigned pairs) {
  size_t row = blockIdx.x;
  y += row * (q_width + 2 * kv_width);
  for (unsigned pair = threadIdx.x; pair < (q_width + kv_width) / 2; pair += blockDim.x) {
    unsigned i = pair % pairs, head = pair / pairs * 2 * pairs;
    const T* x = head < q_width ? q + row * q_width + head : k + row * kv_width + head - q_width;
    rotate(x, y + head, cos[row * pairs + i], sin[row * pairs + i], i, pairs);
  }
  for (unsigned i = threadIdx.x; i < kv_width; i += blockDim.x) y[q_width + kv_width + i] = v[row * kv_width + i];
}

#define ROPE(T, type)                                                                                                       \
  extern "C" __global__ void rope_##type(const T* x, const float* cos, const float* sin, T* y, unsigned stride,             \
                                         unsigned column, unsigned width, unsigned pairs) {                                 \
    rope(x, cos, sin, y, stride, column, width, pairs);                                                                     \
  }                                                                                                                         \
  KERNEL(rope_##type)                                                                                                       \
  extern "C" __global__ void rope_split_##type(const T* x, const float* cos, const float* sin, T* q, T* k, T* v,            \
                                               unsigned q_width, unsigned kv_width, unsigned pairs) {                       \
    rope_split(x, cos, sin, q, k, v, q_width, kv_width, pairs);                                                             \
  }                                                                                                                         \
  KERNEL(rope_split_##type)                                                                                                 \
  extern "C" __global__ void rope_join_##type(const T* q, const T* k, const T* v, const float* cos, const float* sin, T* y, \
                                              unsigned q_width, unsigned kv_width, unsigned pairs) {                        \
    rope_join(q, k, v, cos, sin, y, q_width, kv_width, pairs);                                                              \
  }                                                                                                                         \
  KERNEL(rope_join_##type)
FOR_EACH_TYPE(ROPE)
