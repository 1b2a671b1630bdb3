// Rotary position embedding, half-split. A block a row. angles (rows, 2·pairs): cosines, then sines; sign: 1, or −1 for the
// opposite rotation, through which the gradient goes.
#include "common.cuh"

// The rotated pair `i` of a head that begins at x, to y; of a row's angles.
template <class T>
__device__ inline void rotate(const T* x, T* y, const float* angles, float sign, unsigned i, unsigned pairs) {
  float x1 = widen(x[i]), x2 = widen(x[i + pairs]), cos = angles[i], sin = sign * angles[i + pairs];
  y[i] = narrow<T>(x1 * cos - x2 * sin);
  y[i + pairs] = narrow<T>(x2 * cos + x1 * sin);
}

// x (rows, stride) → y (rows, width) from the columns that begin at `column`.
template <class T>
__device__ void rope(const T* x, const float* angles, T* y, unsigned stride, unsigned column, unsigned width, unsigned pairs,
                     float sign) {
  size_t row = blockIdx.x;
  angles += row * 2 * pairs;
  for (unsigned pair = threadIdx.x; pair < width / 2; pair += blockDim.x) {
    unsigned i = pair % pairs, head = pair / pairs * 2 * pairs;
    rotate(x + row * stride + column + head, y + row * width + head, angles, sign, i, pairs);
  }
}

// Rows [q | k | v] → q and k rotated, v as it is, each by itself.
template <class T>
__device__ void rope_split(const T* x, const float* angles, T* q, T* k, T* v, unsigned q_width, unsigned kv_width,
                           unsigned pairs, float sign) {
  size_t row = blockIdx.x;
  angles += row * 2 * pairs;
  x += row * (q_width + 2 * kv_width);
  for (unsigned pair = threadIdx.x; pair < (q_width + kv_width) / 2; pair += blockDim.x) {
    unsigned i = pair % pairs, head = pair / pairs * 2 * pairs;
    T* y = head < q_width ? q + row * q_width + head : k + row * kv_width + head - q_width;
    rotate(x + head, y, angles, sign, i, pairs);
  }
  for (unsigned i = threadIdx.x; i < kv_width; i += blockDim.x) v[row * kv_width + i] = x[q_width + kv_width + i];
}

// The reverse: q and k rotated, v as it is → rows [q | k | v].
template <class T>
__device__ void rope_join(const T* q, const T* k, const T* v, const float* angles, T* y, unsigned q_width, unsigned kv_width,
                          unsigned pairs, float sign) {
  size_t row = blockIdx.x;
  angles += row * 2 * pairs;
  y += row * (q_width + 2 * kv_width);
  for (unsigned pair = threadIdx.x; pair < (q_width + kv_width) / 2; pair += blockDim.x) {
    unsigned i = pair % pairs, head = pair / pairs * 2 * pairs;
    const T* x = head < q_width ? q + row * q_width + head : k + row * kv_width + head - q_width;
    rotate(x, y + head, angles, sign, i, pairs);
  }
  for (unsigned i = threadIdx.x; i < kv_width; i += blockDim.x) y[q_width + kv_width + i] = v[row * kv_width + i];
}

#define ROPE(T, type)                                                                                                       \
  extern "C" __global__ void rope_##type(const T* x, const float* angles, T* y, unsigned stride, unsigned column,           \
                                         unsigned width, unsigned pairs, float sign) {                                      \
    rope(x, angles, y, stride, column, width, pairs, sign);                                                                 \
  }                                                                                                                         \
  KERNEL(rope_##type)                                                                                                       \
  extern "C" __global__ void rope_split_##type(const T* x, const float* angles, T* q, T* k, T* v, unsigned q_width,         \
                                               unsigned kv_width, unsigned pairs, float sign) {                             \
    rope_split(x, angles, q, k, v, q_width, kv_width, pairs, sign);                                                         \
  }                                                                                                                         \
  KERNEL(rope_split_##type)                                                                                                 \
  extern "C" __global__ void rope_join_##type(const T* q, const T* k, const T* v, const float* angles, T* y,                \
                                              unsigned q_width, unsigned kv_width, unsigned pairs, float sign) {            \
    rope_join(q, k, v, angles, y, q_width, kv_width, pairs, sign);                                                          \
  }                                                                                                                         \
  KERNEL(rope_join_##type)
FOR_EACH_TYPE(ROPE)
