// RMSNorm and its vector-Jacobian product: a block a row, statistics in f32.
#include "common.cuh"

// y = round(x·r)·w with r = 1/√(mean(x²) + eps), rounded to T in between as the checkpoints' own code does.
template <class T> __device__ void rms_norm(const T* x, const T* weight, T* y, unsigned width, float eps) {
  SHARED_MEMORY;
  x += (size_t)blockIdx.x * width;
  y += (size_t)blockIdx.x * width;
  float squares = 0.0f;
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) squares += widen(x[i]) * widen(x[i]);
  float r = 1.0f / sqrtf(block_sum(squares, shared) / width + eps);
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
    y[i] = narrow<T>(widen(narrow<T>(widen(x[i]) * r)) * widen(weight[i]));
  }
}

// dx = [residual +] r·g − x·r³/width·Σ x·g with g = w·dy.
template <class T>
__device__ void rms_norm_vjp(const T* x, const T* weight, const T* dy, const T* residual, T* dx, unsigned width, float eps,
                             unsigned has_residual) {
  SHARED_MEMORY;
  size_t start = (size_t)blockIdx.x * width;
  x += start, dy += start, residual += start, dx += start;
  float squares = 0.0f, projection = 0.0f;
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
    squares += widen(x[i]) * widen(x[i]);
    projection += widen(x[i]) * widen(weight[i]) * widen(dy[i]);
  }
  float r = 1.0f / sqrtf(block_sum(squares, shared) / width + eps);
  float back = r * r * r / width * block_sum(projection, shared);
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
    float onto = has_residual ? widen(residual[i]) : 0.0f;
    dx[i] = narrow<T>(onto + r * widen(weight[i]) * widen(dy[i]) - back * widen(x[i]));
  }
}

#define NORM(T, type)                                                                                                       \
  extern "C" __global__ void rms_norm_##type(const T* x, const T* weight, T* y, unsigned width, float eps) {                \
    rms_norm(x, weight, y, width, eps);                                                                                     \
  }                                                                                                                         \
  KERNEL(rms_norm_##type)                                                                                                   \
  extern "C" __global__ void rms_norm_vjp_##type(const T* x, const T* weight, const T* dy, const T* residual, T* dx,        \
                                                 unsigned width, float eps, unsigned has_residual) {                        \
    rms_norm_vjp(x, weight, dy, residual, dx, width, eps, has_residual);                                                    \
  }                                                                                                                         \
  KERNEL(rms_norm_vjp_##type)
FOR_EACH_TYPE(NORM)
