// Rotary position embedding, half-split, of the heads in some columns of the rows of x. A block a row; the gradient goes
// through the same kernel with −sin.
#include "common.cuh"

// x (rows, stride), cos and sin (rows, pairs) f32 → y (rows, width) from the columns that begin at `column`.
template <class T>
__device__ void rope(const T* x, const float* cos, const float* sin, T* y, unsigned stride, unsigned column, unsigned width,
                     unsigned pairs) {
  x += (size_t)blockIdx.x * stride + column;
  y += (size_t)blockIdx.x * width;
  cos += (size_t)blockIdx.x * pairs;
  sin += (size_t)blockIdx.x * pairs;
  for (unsigned pair = threadIdx.x; pair < width / 2; pair += blockDim.x) {
    unsigned i = pair % pairs, first = pair / pairs * 2 * pairs + i, second = first + pairs;
    float x1 = widen(x[first]), x2 = widen(x[second]);
    y[first] = narrow<T>(x1 * cos[i] - x2 * sin[i]);
    y[second] = narrow<T>(x2 * cos[i] + x1 * sin[i]);
  }
}

#define ROPE(T, type)                                                                                                       \
  extern "C" __global__ void rope_##type(const T* x, const float* cos, const float* sin, T* y, unsigned stride,             \
                                         unsigned column, unsigned width, unsigned pairs) {                                 \
    rope(x, cos, sin, y, stride, column, width, pairs);                                                                     \
  }                                                                                                                         \
  KERNEL(rope_##type)
FOR_EACH_TYPE(ROPE)
