// SwiGLU on rows [gate | up], and its vector-Jacobian product. blockIdx.x is the row; a block takes EACH elements a thread.
#include "common.cuh"

const unsigned EACH = 4;

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T> __device__ void swiglu(const T* gate_up, T* y, unsigned width) {
  const T* gate = gate_up + (size_t)blockIdx.x * 2 * width;
  const T* up = gate + width;
  y += (size_t)blockIdx.x * width;
  for (unsigned step = 0; step < EACH; step++) {
    unsigned i = (blockIdx.y * EACH + step) * blockDim.x + threadIdx.x;
    if (i < width) y[i] = narrow<T>(widen(gate[i]) * sigmoid(widen(gate[i])) * widen(up[i]));
  }
}

// With s = σ(gate): d gate = dy·up·s·(1 + gate·(1 − s)), d up = dy·gate·s.
template <class T> __device__ void swiglu_vjp(const T* gate_up, const T* dy, T* dx, unsigned width) {
  size_t start = (size_t)blockIdx.x * 2 * width;
  dy += (size_t)blockIdx.x * width;
  for (unsigned step = 0; step < EACH; step++) {
    unsigned i = (blockIdx.y * EACH + step) * blockDim.x + threadIdx.x;
    if (i < width) {
      float gate = widen(gate_up[start + i]), up = widen(gate_up[start + width + i]), d = widen(dy[i]), s = sigmoid(gate);
      dx[start + i] = narrow<T>(d * up * s * (1.0f + gate * (1.0f - s)));
      dx[start + width + i] = narrow<T>(d * gate * s);
    }
  }
}

#define SWIGLU(T, type)                                                                                                     \
  extern "C" __global__ void swiglu_##type(const T* gate_up, T* y, unsigned width) { swiglu(gate_up, y, width); }           \
  KERNEL(swiglu_##type)                                                                                                     \
  extern "C" __global__ void swiglu_vjp_##type(const T* gate_up, const T* dy, T* dx, unsigned width) {                      \
    swiglu_vjp(gate_up, dy, dx, width);                                                                                     \
  }                                                                                                                         \
  KERNEL(swiglu_vjp_##type)
FOR_EACH_TYPE(SWIGLU)
