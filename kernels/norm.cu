// RMSNorm and its vector-Jacobian product: a block a row, statistics in f32.
#include "common.cuh"

// 1/√(mean + eps) of the mean of squares; not a number where the squares are beyond f32, for which 1/∞ would be 0.
__device__ inline float inverse_rms(float mean, float eps) {
  float r = 1.0f / sqrtf(mean + eps);
  return r > 0.0f ? r : nanf("");
}

// y = round(x·r)·w with r = 1/√(mean(x²) + eps), rounded to T in between, or with an offset x·r·(offset + w), rounded once: both
// as the checkpoints' own code does.
template <class T> __device__ void rms_norm(const T* x, const T* weight, T* y, unsigned width, float eps, float offset) {
  SHARED_MEMORY;
  const unsigned first = threadIdx.x * Part<T>::SIZE, step = blockDim.x * Part<T>::SIZE;
  x += (size_t)blockIdx.x * width;
  y += (size_t)blockIdx.x * width;
  float squares = 0.0f;
  for (unsigned at = first; at < width; at += step) {
    Part<T> of_x = Part<T>::load(x, at, width);
    for (float element : of_x.x) squares += element * element;
  }
  float r = inverse_rms(block_sum(squares, shared) / width, eps);
  for (unsigned at = first; at < width; at += step) {
    Part<T> of_y = Part<T>::load(x, at, width), w = Part<T>::load(weight, at, width);
#pragma unroll
    for (unsigned i = 0; i < Part<T>::SIZE; i++) {
      float normed = of_y.x[i] * r;
      of_y.x[i] = offset == 0.0f ? widen(narrow<T>(normed)) * w.x[i] : normed * (offset + w.x[i]);
    }
    of_y.store(y, at, width);
  }
}

// dx = [residual +] r·g − x·r³/width·Σ x·g with g = (offset + w)·dy.
template <class T>
__device__ void rms_norm_vjp(const T* x, const T* weight, const T* dy, const T* residual, T* dx, unsigned width, float eps,
                             float offset, unsigned has_residual) {
  SHARED_MEMORY;
  const unsigned first = threadIdx.x * Part<T>::SIZE, step = blockDim.x * Part<T>::SIZE;
  size_t start = (size_t)blockIdx.x * width;
  x += start, dy += start, residual += start, dx += start;
  float squares = 0.0f, projection = 0.0f;
  for (unsigned at = first; at < width; at += step) {
    Part<T> of_x = Part<T>::load(x, at, width), w = Part<T>::load(weight, at, width), d = Part<T>::load(dy, at, width);
#pragma unroll
    for (unsigned i = 0; i < Part<T>::SIZE; i++) {
      squares += of_x.x[i] * of_x.x[i];
      projection += of_x.x[i] * (offset + w.x[i]) * d.x[i];
    }
  }
  float r = inverse_rms(block_sum(squares, shared) / width, eps);
  float back = r * r * r / width * block_sum(projection, shared);
  for (unsigned at = first; at < width; at += step) {
    Part<T> of_x = Part<T>::load(x, at, width), w = Part<T>::load(weight, at, width), d = Part<T>::load(dy, at, width);
    Part<T> onto = Part<T>::load(residual, at, width), y;
#pragma unroll
    for (unsigned i = 0; i < Part<T>::SIZE; i++) {
      y.x[i] = (has_residual ? onto.x[i] : 0.0f) + r * (offset + w.x[i]) * d.x[i] - back * of_x.x[i];
    }
    y.store(dx, at, width);
  }
}

#define NORM(T, type)                                                                                                       \
  extern "C" __global__ void rms_norm_##type(const T* x, const T* weight, T* y, unsigned width, float eps, float offset) {  \
    rms_norm(x, weight, y, width, eps, offset);                                                                             \
  }                                                                                                                         \
  KERNEL(rms_norm_##type)                                                                                                   \
  extern "C" __global__ void rms_norm_vjp_##type(const T* x, const T* weight, const T* dy, const T* residual, T* dx,        \
                                                 unsigned width, float eps, float offset, unsigned has_residual) {          \
    rms_norm_vjp(x, weight, dy, residual, dx, width, eps, offset, has_residual);                                            \
  }                                                                                                                         \
  KERNEL(rms_norm_vjp_##type)
FOR_EACH_TYPE(NORM)
