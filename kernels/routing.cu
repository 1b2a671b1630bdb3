// Which experts the rows of a pass go through, and what stands around their products. A row has `per_token` choices, the
// likeliest experts first; choice c is of row c / per_token. Sorted choices lie by expert, those of one expert in their order.
#include "common.cuh"

// The softmax of a row's logits, and its likeliest experts, of equal ones the first. logits and probabilities (rows, experts),
// chosen and weights (rows, per_token). A block a row; its shared memory has the probabilities, those of the chosen, and a number
// a warp.
template <class T>
__device__ void route(const T* logits, float* probabilities, unsigned* chosen, float* weights, unsigned experts,
                      unsigned per_token, unsigned is_normalised) {
  SHARED_MEMORY;
  float *all = shared, *likeliest = all + experts, *scratch = likeliest + per_token;
  logits += (size_t)blockIdx.x * experts, probabilities += (size_t)blockIdx.x * experts;
  chosen += (size_t)blockIdx.x * per_token, weights += (size_t)blockIdx.x * per_token;
  float max = -INFINITY, sum = 0.0f;
  for (unsigned e = threadIdx.x; e < experts; e += blockDim.x) max = fmaxf(max, widen(logits[e]));
  max = block_max(max, scratch);
  for (unsigned e = threadIdx.x; e < experts; e += blockDim.x) sum += all[e] = expf(widen(logits[e]) - max);
  sum = block_sum(sum, scratch);
  for (unsigned e = threadIdx.x; e < experts; e += blockDim.x) probabilities[e] = all[e] /= sum;
  __syncthreads();
  // By their bits, which numbers that are not negative have in their order, and which give each expert a place of its own even
  // where they are no numbers.
  for (unsigned e = threadIdx.x; e < experts; e += blockDim.x) {
    unsigned own = bits_of(all[e]), place = 0;
    for (unsigned other = 0; other < experts; other++) {
      unsigned bits = bits_of(all[other]);
      place += bits > own || (bits == own && other < e);
    }
    if (place < per_token) chosen[place] = e, likeliest[place] = all[e];
  }
  __syncthreads();
  float whole = 0.0f;
  for (unsigned place = 0; place < per_token; place++) whole += likeliest[place];
  for (unsigned place = threadIdx.x; place < per_token; place += blockDim.x) {
    weights[place] = is_normalised ? likeliest[place] / whole : likeliest[place];
  }
}

// The gradient of a row's logits, given that of the weight of each choice, slopes (rows, per_token). A block a row.
template <class T>
__device__ void route_vjp(const float* probabilities, const unsigned* chosen, const float* weights, const float* slopes,
                          T* d_logits, unsigned experts, unsigned per_token, unsigned is_normalised) {
  probabilities += (size_t)blockIdx.x * experts, d_logits += (size_t)blockIdx.x * experts;
  size_t first = (size_t)blockIdx.x * per_token;
  chosen += first, weights += first, slopes += first;
  float sum = 0.0f, mean = 0.0f, expected = 0.0f;
  for (unsigned i = 0; i < per_token; i++) sum += probabilities[chosen[i]], mean += weights[i] * slopes[i];
  auto slope = [&](unsigned i) { return is_normalised ? (slopes[i] - mean) / sum : slopes[i]; };
  for (unsigned i = 0; i < per_token; i++) expected += probabilities[chosen[i]] * slope(i);
  for (unsigned e = threadIdx.x; e < experts; e += blockDim.x) {
    float own = 0.0f;
    for (unsigned i = 0; i < per_token; i++)
      if (chosen[i] == e) own = slope(i);
    d_logits[e] = narrow<T>(probabilities[e] * (own - expected));
  }
}

// Sorts choices by expert: starts (experts + 1) of each expert's; order (choices), which choice each of the sorted is; and
// positions (choices) of each choice among the sorted. A block an expert; a thread looks for it in a piece of the choices. Shared
// memory: two numbers a thread.
__device__ inline void sort_choices(const unsigned* chosen, unsigned* starts, unsigned* order, unsigned* positions,
                                    unsigned choices) {
  SHARED_MEMORY;
  unsigned *of_expert = reinterpret_cast<unsigned*>(shared), *of_earlier = of_expert + blockDim.x;
  unsigned piece = (choices + blockDim.x - 1) / blockDim.x;
  unsigned from = min(threadIdx.x * piece, choices), to = min(from + piece, choices), own = 0, earlier = 0;
  for (unsigned i = from; i < to; i++) own += chosen[i] == blockIdx.x, earlier += chosen[i] < blockIdx.x;
  of_expert[threadIdx.x] = own, of_earlier[threadIdx.x] = earlier;
  __syncthreads();
  unsigned first = 0, before = 0, all = 0;
  for (unsigned thread = 0; thread < blockDim.x; thread++) {
    if (thread == threadIdx.x) before = all;
    first += of_earlier[thread], all += of_expert[thread];
  }
  if (threadIdx.x == 0) {
    if (blockIdx.x == 0) starts[0] = 0;
    starts[blockIdx.x + 1] = first + all;
  }
  unsigned at = first + before;
  for (unsigned i = from; i < to; i++)
    if (chosen[i] == blockIdx.x) order[at] = i, positions[i] = at++;
}

// y = [onto +] Σ [weight·] the row of x that belongs to each choice of a row, in the order of the choices. x (choices, width),
// sorted; onto and y (rows, width). blockIdx.x is the row; a thread takes one part of it.
template <class T>
__device__ void combine(const T* x, const unsigned* positions, const float* weights, const T* onto, T* y, unsigned width,
                        unsigned per_token, unsigned is_weighted, unsigned has_onto) {
  const unsigned at = (blockIdx.y * blockDim.x + threadIdx.x) * Part<T>::SIZE;
  if (at >= width) return;
  Part<T> sum = Part<T>::load(onto + (size_t)blockIdx.x * width, at, width);
#pragma unroll
  for (unsigned i = 0; i < Part<T>::SIZE; i++) sum.x[i] = has_onto ? sum.x[i] : 0.0f;
  size_t first = (size_t)blockIdx.x * per_token;
  for (size_t choice = first; choice < first + per_token; choice++) {
    float weight = is_weighted ? weights[choice] : 1.0f;
    Part<T> part = Part<T>::load(x + (size_t)positions[choice] * width, at, width);
#pragma unroll
    for (unsigned i = 0; i < Part<T>::SIZE; i++) sum.x[i] += weight * part.x[i];
  }
  sum.store(y + (size_t)blockIdx.x * width, at, width);
}

#define ROUTING(T, type)                                                                                                    \
  extern "C" __global__ void route_##type(const T* logits, float* probabilities, unsigned* chosen, float* weights,          \
                                          unsigned experts, unsigned per_token, unsigned is_normalised) {                   \
    route(logits, probabilities, chosen, weights, experts, per_token, is_normalised);                                       \
  }                                                                                                                         \
  KERNEL(route_##type)                                                                                                      \
  extern "C" __global__ void route_vjp_##type(const float* probabilities, const unsigned* chosen, const float* weights,     \
                                              const float* slopes, T* d_logits, unsigned experts, unsigned per_token,       \
                                              unsigned is_normalised) {                                                     \
    route_vjp(probabilities, chosen, weights, slopes, d_logits, experts, per_token, is_normalised);                         \
  }                                                                                                                         \
  KERNEL(route_vjp_##type)                                                                                                  \
  extern "C" __global__ void combine_##type(const T* x, const unsigned* positions, const float* weights, const T* onto,     \
                                            T* y, unsigned width, unsigned per_token, unsigned is_weighted,                 \
                                            unsigned has_onto) {                                                            \
    combine(x, positions, weights, onto, y, width, per_token, is_weighted, has_onto);                                       \
  }                                                                                                                         \
  KERNEL(combine_##type)
FOR_EACH_TYPE(ROUTING)

// Of numbers alone: the suffix says nothing.
extern "C" __global__ void sort_choices_f32(const unsigned* chosen, unsigned* starts, unsigned* order, unsigned* positions,
                                            unsigned choices) {
  sort_choices(chosen, starts, order, positions, choices);
}
KERNEL(sort_choices_f32)
