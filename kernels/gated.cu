// Gated activations on rows [gate | up], act(gate)·up, and their vector-Jacobian products. blockIdx.x is the row; unless
// said otherwise, a thread takes one part of it.
#include "common.cuh"

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Both activations are gate·σ(u), with u and its slope u′ as functions of the gate.
struct Silu {
  __device__ static float inner(float gate) { return gate; }
  __device__ static float slope(float) { return 1.0f; }
};

// ½·gate·(1 + tanh(√(2/π)·(gate + 0.044715·gate³))), where 1 + tanh(z) = 2·σ(2z).
struct Gelu {
  static constexpr float FACTOR = 1.5957691216f, CUBE = 0.044715f;
  __device__ static float inner(float gate) { return FACTOR * gate * (1.0f + CUBE * gate * gate); }
  __device__ static float slope(float gate) { return FACTOR * (1.0f + 3.0f * CUBE * gate * gate); }
};

template <class Activation, class T> __device__ void gated(const T* gate_up, T* y, unsigned width) {
  const unsigned at = (blockIdx.y * blockDim.x + threadIdx.x) * Part<T>::SIZE;
  if (at >= width) return;
  const T* row = gate_up + (size_t)blockIdx.x * 2 * width;
  Part<T> gate = Part<T>::load(row, at, width), up = Part<T>::load(row + width, at, width);
#pragma unroll
  for (unsigned i = 0; i < Part<T>::SIZE; i++) gate.x[i] *= sigmoid(Activation::inner(gate.x[i])) * up.x[i];
  gate.store(y + (size_t)blockIdx.x * width, at, width);
}

// Gate and up become their gradients, given that of act(gate)·up, whose value is returned. With s = σ(u):
// d gate = dy·up·s·(1 + gate·(1 − s)·u′), d up = dy·gate·s.
template <class Activation> __device__ inline float to_gradients(float& gate, float& up, float dy) {
  float s = sigmoid(Activation::inner(gate)), d_up = dy * gate * s, y = gate * s * up;
  gate = dy * up * s * (1.0f + gate * (1.0f - s) * Activation::slope(gate));
  up = d_up;
  return y;
}

template <class Activation, class T> __device__ void gated_vjp(const T* gate_up, const T* dy, T* dx, unsigned width) {
  const unsigned at = (blockIdx.y * blockDim.x + threadIdx.x) * Part<T>::SIZE;
  if (at >= width) return;
  size_t start = (size_t)blockIdx.x * 2 * width;
  Part<T> gate = Part<T>::load(gate_up + start, at, width), up = Part<T>::load(gate_up + start + width, at, width);
  Part<T> d = Part<T>::load(dy + (size_t)blockIdx.x * width, at, width);
#pragma unroll
  for (unsigned i = 0; i < Part<T>::SIZE; i++) to_gradients<Activation>(gate.x[i], up.x[i], d.x[i]);
  gate.store(dx + start, at, width);
  up.store(dx + start + width, at, width);
}

// The same where what follows is linear and its result is multiplied by a weight of the row: dy is the gradient before that.
// Row r has weight order[r], and the gradient of that weight, Σ dy·act(gate)·up, is written to the same place. A block a row.
template <class Activation, class T>
__device__ void gated_weighted_vjp(const T* gate_up, const T* dy, const unsigned* order, const float* weights, T* dx,
                                   float* slopes, unsigned width) {
  SHARED_MEMORY;
  size_t start = (size_t)blockIdx.x * 2 * width;
  unsigned place = order[blockIdx.x];
  float weight = weights[place], slope = 0.0f;
  for (unsigned at = threadIdx.x * Part<T>::SIZE; at < width; at += blockDim.x * Part<T>::SIZE) {
    Part<T> gate = Part<T>::load(gate_up + start, at, width), up = Part<T>::load(gate_up + start + width, at, width);
    Part<T> d = Part<T>::load(dy + (size_t)blockIdx.x * width, at, width);
#pragma unroll
    for (unsigned i = 0; i < Part<T>::SIZE; i++) {
      slope += d.x[i] * to_gradients<Activation>(gate.x[i], up.x[i], weight * d.x[i]);
    }
    gate.store(dx + start, at, width);
    up.store(dx + start + width, at, width);
  }
  slope = block_sum(slope, shared);
  if (threadIdx.x == 0) slopes[place] = slope;
}

#define GATED(T, type, name, Activation)                                                                                    \
  extern "C" __global__ void name##_##type(const T* gate_up, T* y, unsigned width) { gated<Activation>(gate_up, y, width); } \
  KERNEL(name##_##type)                                                                                                     \
  extern "C" __global__ void name##_vjp_##type(const T* gate_up, const T* dy, T* dx, unsigned width) {                      \
    gated_vjp<Activation>(gate_up, dy, dx, width);                                                                          \
  }                                                                                                                         \
  KERNEL(name##_vjp_##type)                                                                                                 \
  extern "C" __global__ void name##_weighted_vjp_##type(const T* gate_up, const T* dy, const unsigned* order,               \
                                                        const float* weights, T* dx, float* slopes, unsigned width) {       \
    gated_weighted_vjp<Activation>(gate_up, dy, order, weights, dx, slopes, width);                                         \
  }                                                                                                                         \
  KERNEL(name##_weighted_vjp_##type)

#define ACTIVATIONS(T, type)                                                                                                \
  GATED(T, type, gated_silu, Silu)                                                                                          \
  GATED(T, type, gated_gelu, Gelu)
FOR_EACH_TYPE(ACTIVATIONS)
