// What the kernels share: element types and their conversion, sums over a block. nvcc compiles them for the GPU; the tests
// compile the very same files with a C++ compiler, through host.h, and run them on the CPU.
//
// Contract of every kernel: sums and statistics in f32; tensors are dense; a block has whole warps; no atomics, so that two
// runs give the same bits; dynamic shared memory alone, at most 48 KiB, its size in the launch (src/ops/cuda).
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define SHARED_MEMORY extern __shared__ __align__(16) float shared[]
#define KERNEL(name)
__device__ inline unsigned bits_of(float x) { return __float_as_uint(x); }
#else
#include "host.h"
#endif

using bf16 = __nv_bfloat16;
using f16 = __half;

// Instantiates a kernel for each element type: M(type, suffix of the name).
#define FOR_EACH_TYPE(M) M(float, f32) M(f16, f16) M(bf16, bf16)

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(f16 x) { return __half2float(x); }
__device__ inline float widen(bf16 x) { return __bfloat162float(x); }

template <class T> __device__ inline T narrow(float x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline f16 narrow<f16>(float x) { return __float2half_rn(x); }
template <> __device__ inline bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }

__device__ inline unsigned short bits_of(f16 x) { return __half_as_ushort(x); }
__device__ inline unsigned short bits_of(bf16 x) { return __bfloat16_as_ushort(x); }

// Sixteen bytes at once from the device's memory, at a multiple of that.
__device__ inline uint4 load_global(const void* from) { return *static_cast<const uint4*>(from); }

// The same to shared memory in the background, or zeros: there when this thread has waited, for others behind a barrier too.
__device__ inline void copy_in_background(void* to, const void* from, bool is_there) {
#ifdef __CUDACC__
  unsigned bytes = is_there ? 16 : 0;
  unsigned at = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
#else
  emulated_copy(to, is_there ? from : nullptr);
#endif
}
__device__ inline void wait_for_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  emulated_wait();
#endif
}

// Elements of a row that a thread takes at once: sixteen bytes where rows are multiples of that, else one by one.
template <class T> struct Part {
  static const unsigned SIZE = 16 / sizeof(T);
  float x[SIZE];

  // Those from `at` on of a row of `width`, zeros behind its end.
  __device__ static Part load(const T* row, unsigned at, unsigned width) {
    Part part;
    if (width % SIZE == 0) {
      uint4 raw = load_global(row + at);
#pragma unroll
      for (unsigned i = 0; i < SIZE; i++) part.x[i] = widen(reinterpret_cast<const T*>(&raw)[i]);
    } else {
#pragma unroll
      for (unsigned i = 0; i < SIZE; i++) part.x[i] = at + i < width ? widen(row[at + i]) : 0.0f;
    }
    return part;
  }

  __device__ void store(T* row, unsigned at, unsigned width) const {
    if (width % SIZE == 0) {
      uint4 raw;
#pragma unroll
      for (unsigned i = 0; i < SIZE; i++) reinterpret_cast<T*>(&raw)[i] = narrow<T>(x[i]);
      *reinterpret_cast<uint4*>(row + at) = raw;
    } else {
#pragma unroll
      for (unsigned i = 0; i < SIZE; i++)
        if (at + i < width) row[at + i] = narrow<T>(x[i]);
    }
  }
};

// Soft-capping, cap·tanh(x / cap), where CAPPED is true, and its slope as a function of the result; of a masked score, −∞, it is 0.
template <bool CAPPED> __device__ inline float soft_cap(float x, float cap) {
  return CAPPED ? cap * tanhf(x * (1.0f / cap)) : x;
}
template <bool CAPPED> __device__ inline float soft_cap_slope(float y, float cap) {
  float tanh = y * (1.0f / cap);
  return CAPPED ? fmaxf(1.0f - tanh * tanh, 0.0f) : 1.0f;
}

// Over runs of `lanes` neighbouring threads of a warp, a power of two; every thread gets the result.
__device__ inline float lanes_sum(float x, int lanes) {
  for (int step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

__device__ inline float lanes_max(float x, int lanes) {
  for (int step = lanes / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

// Over the block; every thread gets the result. `scratch` holds one number a warp and may be used again at once.
__device__ inline float block_sum(float x, float* scratch) {
  x = lanes_sum(x, 32);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.0f;
  for (unsigned warp = 0; warp < blockDim.x / 32; warp++) sum += scratch[warp];
  return sum;
}

__device__ inline float block_max(float x, float* scratch) {
  x = lanes_max(x, 32);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float max = scratch[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; warp++) max = fmaxf(max, scratch[warp]);
  return max;
}
