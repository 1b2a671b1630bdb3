// The kernels' language for a C++ compiler: what CUDA would declare, the 16-bit types, products of a warp and copies in the
// background, and how a kernel gets its arguments.
// Not a GPU: host.cpp runs one thread after the other, each up to its next barrier.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define SHARED_MEMORY float* shared = emulated_shared
// A kernel is found by its source and name; a driver needs it to be extern "C", and so does this declaration.
#define KERNEL(name)              \
  extern "C" decltype(name) name; \
  static const bool name##_is_known = register_kernel(__BASE_FILE__, #name, name);

[[noreturn]] void fail(const std::string& problem);

struct Dim {
  unsigned x, y;
};
extern Dim threadIdx, blockIdx, blockDim;
extern float* emulated_shared;

void __syncthreads();
void __syncwarp();

// What each thread of a warp gives in a call that all of them make together; then what thread `lane` gave in it.
struct Given {
  uint64_t words[3];
};
void give(Given given);
const Given& given_by(unsigned lane);
float __shfl_xor_sync(unsigned mask, float x, int step);

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Sixteen bytes, or zeros, that arrive when the thread waits.
void emulated_copy(void* to, const void* from);
void emulated_wait();

inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

struct __nv_bfloat16 {
  uint16_t bits;
};
struct __half {
  uint16_t bits;
};

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline float __bfloat162float(__nv_bfloat16 x) { return float_of((uint32_t)x.bits << 16); }

// To nearest, ties to even.
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  if (std::isnan(x)) return {0x7fff};
  uint32_t bits = bits_of(x);
  return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline float __half2float(__half x) {
  int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  float size = exponent == 31  ? (fraction ? NAN : INFINITY)
               : exponent == 0 ? std::ldexp((float)fraction, -24)
                               : std::ldexp((float)(1024 + fraction), exponent - 25);
  return x.bits >> 15 ? -size : size;
}

// To nearest, ties to even: nearbyint in units of the last place, which is 2^-24 below 2^-14.
inline __half __float2half_rn(float x) {
  uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
  float size = std::fabs(x);
  if (std::isnan(x)) return {0x7fff};
  int exponent = size == 0.0f ? -14 : std::max(std::ilogb(size), -14);
  float units = std::nearbyint(std::ldexp(size, 10 - exponent));
  if (units >= 2048.0f) units /= 2.0f, exponent++;
  if (exponent > 15) return {(uint16_t)(sign | 0x7c00)};
  uint16_t fraction = (uint16_t)units;
  return {(uint16_t)(sign | (fraction < 1024 ? fraction : ((exponent + 15) << 10) + fraction - 1024))};
}

inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline float wide(__half x) { return __half2float(x); }
inline float wide(__nv_bfloat16 x) { return __bfloat162float(x); }

// mma.sync m16n8k16: element (row, k) of the left factor is in thread row % 8 · 4 + k % 8 / 2, and so on, as PTX says.
template <class T>
void emulated_multiply_add(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1) {
  auto both = [](unsigned low, unsigned high) { return low | (uint64_t)high << 32; };
  give({{both(left[0], left[1]), both(left[2], left[3]), both(right0, right1)}});
  auto element = [](unsigned lane, unsigned at, unsigned half) {
    return wide(T{(uint16_t)(given_by(lane).words[at / 2] >> (32 * (at % 2) + 16 * half))});
  };
  unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (unsigned i = 0; i < 4; i++) {
    unsigned column = 2 * t + i % 2;
    for (unsigned k = 0; k < 16; k++) {
      float a = element(4 * g + k % 8 / 2, i / 2 + k / 8 * 2, k % 2), b = element(4 * column + k % 8 / 2, 4 + k / 8, k % 2);
      sum[i] += a * b;
    }
  }
}

// ldmatrix.x4, each row at a multiple of 16 bytes. Rows are read before any thread waits for another: it is no barrier.
template <class T> void emulated_load_matrices(unsigned (&to)[4], const T* row, bool transposed) {
  if ((uintptr_t)row % 16) fail("ldmatrix of a row that is not at a multiple of 16 bytes");
  Given read;
  std::memcpy(read.words, row, 16);
  give(read);
  unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (unsigned i = 0; i < 4; i++) {
    auto element = [i](unsigned row, unsigned column) {
      return (unsigned)(given_by(8 * i + row).words[column / 4] >> (16 * (column % 4)) & 0xffff);
    };
    to[i] = transposed ? element(2 * t, g) | element(2 * t + 1, g) << 16 : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
  }
}

// An argument as the caller sends it; src/ops/cuda/emulator.rs has the same numbers.
enum class Kind : uint8_t { Read, Update, Output, Unsigned, Float };
enum class Type : uint8_t { F32, F16, Bf16, U32 };

struct Argument {
  Kind kind;
  Type type;
  void* data;
  unsigned number;
};

template <class T> inline const Type TYPE = Type::F32;
template <> inline const Type TYPE<__half> = Type::F16;
template <> inline const Type TYPE<__nv_bfloat16> = Type::Bf16;
template <> inline const Type TYPE<unsigned> = Type::U32;

// A parameter from an argument, which must be of its kind and type.
template <class T> struct Parameter;
template <> struct Parameter<unsigned> {
  static unsigned from(const Argument& argument) {
    if (argument.kind != Kind::Unsigned) fail("an argument is not unsigned");
    return argument.number;
  }
};
template <> struct Parameter<float> {
  static float from(const Argument& argument) {
    if (argument.kind != Kind::Float) fail("an argument is not a float");
    return float_of(argument.number);
  }
};
template <class T> struct Parameter<const T*> {
  static const T* from(const Argument& argument) {
    if (argument.kind != Kind::Read || argument.type != TYPE<T>) fail("an argument is not a tensor to read, of the type");
    return (const T*)argument.data;
  }
};
template <class T> struct Parameter<T*> {
  static T* from(const Argument& argument) {
    bool writes = argument.kind == Kind::Update || argument.kind == Kind::Output;
    if (!writes || argument.type != TYPE<T>) fail("an argument is not a tensor to write, of the type");
    return (T*)argument.data;
  }
};

struct Known {
  size_t parameters;
  std::function<void(const Argument*)> call;
};
bool add_kernel(const char* source, const char* name, Known kernel);

template <class... P, size_t... I>
void call_with(void (*kernel)(P...), const Argument* arguments, std::index_sequence<I...>) {
  kernel(Parameter<P>::from(arguments[I])...);
}

template <class... P> bool register_kernel(const char* source, const char* name, void (*kernel)(P...)) {
  auto call = [kernel](const Argument* arguments) { call_with(kernel, arguments, std::index_sequence_for<P...>()); };
  return add_kernel(source, name, {sizeof...(P), call});
}
