// SwiGLU on rows [gate | up], and its vector-Jacobian product. blockIdx.x is the row; a thread takes one part of it.
#include "common.cuh"

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T> __device__ void swiglu(const T* gate_up, T* y, unsigned width) {
  const unsigned at = (blockIdx.y * blockDim.x + threadIdx.x) * Part<T>::SIZE;
  if (at >= width) return;
  const T* row = gate_up + (size_t)blockIdx.x * 2 * width;
  Part<T> gate = Part<T>::load(row, at, width), up = Part<T>::load(row + width, at, width);
#pragma unroll
  for (unsigned i = 0; i < Part<T>::SIZE; i++) gate.x[i] *= sigmoid(gate.x[i]) * up.x[i];
  gate.store(y + (size_t)blockIdx.x * width, at, width);
}

// With s = σ(gate): d gate = dy·up·s·(1 + gate·(1 − s)), d up = dy·gate·s.
template <class T> __device__ void swiglu_vjp(const T* gate_up, const T* dy, T* dx, unsigned width) {
  const unsigned at = (blockIdx.y * blockDim.x + threadIdx.x) * Part<T>::SIZE;
  if (at >= width) return;
  size_t start = (size_t)blockIdx.x * 2 * width;
  Part<T> gate = Part<T>::load(gate_up + start, at, width), up = Part<T>::load(gate_up + start + width, at, width);
  Part<T> d = Part<T>::load(dy + (size_t)blockIdx.x * width, at, width);
#pragma unroll
  for (unsigned i = 0; i < Part<T>::SIZE; i++) {
    float s = sigmoid(gate.x[i]), d_up = d.x[i] * gate.x[i] * s;
    gate.x[i] = d.x[i] * up.x[i] * s * (1.0f + gate.x[i] * (1.0f - s));
    up.x[i] = d_up;
  }
  gate.store(dx + start, at, width);
  up.store(dx + start + width, at, width);
}

#define SWIGLU(T, type)                                                                                                     \
  extern "C" __global__ void swiglu_##type(const T* gate_up, T* y, unsigned width) { swiglu(gate_up, y, width); }           \
  KERNEL(swiglu_##type)                                                                                                     \
  extern "C" __global__ void swiglu_vjp_##type(const T* gate_up, const T* dy, T* dx, unsigned width) {                      \
    swiglu_vjp(gate_up, dy, dx, width);                                                                                     \
  }                                                                                                                         \
  KERNEL(swiglu_vjp_##type)
FOR_EACH_TYPE(SWIGLU)
