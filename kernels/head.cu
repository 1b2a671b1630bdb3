// Log-probabilities of tokens from logits, and the gradient of the hidden states. Predictions are sorted by row: those of
// row r are starts[r]..starts[r + 1]. A block a row.
#include "common.cuh"

// logits (rows, vocab) of the rows from `first_row` on → out at those rows' predictions, and probabilities (rows, vocab)
// where they are wanted. The three passes read a row that the first one brought into the cache.
template <class T>
__device__ void log_probs(const float* logits, const unsigned* starts, const unsigned* targets, float* out, T* probabilities,
                          unsigned vocab, unsigned first_row, unsigned wanted) {
  SHARED_MEMORY;
  logits += (size_t)blockIdx.x * vocab;
  float max = -INFINITY;
  for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) max = fmaxf(max, logits[i]);
  max = block_max(max, shared);
  float sum = 0.0f;
  for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) sum += expf(logits[i] - max);
  float log_sum = max + logf(block_sum(sum, shared));
  unsigned row = first_row + blockIdx.x;
  for (unsigned i = starts[row] + threadIdx.x; i < starts[row + 1]; i += blockDim.x) out[i] = logits[targets[i]] - log_sum;
  if (!wanted) return;
  probabilities += (size_t)blockIdx.x * vocab;
  for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) probabilities[i] = narrow<T>(expf(logits[i] - log_sum));
}

// Σ g·(W[target] − expected[row]) over a row's predictions. weight (vocab, width), expected (rows, width).
template <class T>
__device__ void log_probs_vjp(const T* expected, const T* weight, const unsigned* starts, const unsigned* targets,
                              const float* gradients, T* dh, unsigned width) {
  expected += (size_t)blockIdx.x * width;
  dh += (size_t)blockIdx.x * width;
  unsigned from = starts[blockIdx.x], to = starts[blockIdx.x + 1];
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
    float mean = widen(expected[i]), sum = 0.0f;
    for (unsigned at = from; at < to; at++) sum += gradients[at] * (widen(weight[(size_t)targets[at] * width + i]) - mean);
    dh[i] = narrow<T>(sum);
  }
}

#define HEAD(T, type)                                                                                                       \
  extern "C" __global__ void log_probs_##type(const float* logits, const unsigned* starts, const unsigned* targets,         \
                                              float* out, T* probabilities, unsigned vocab, unsigned first_row,             \
                                              unsigned wanted) {                                                            \
    log_probs(logits, starts, targets, out, probabilities, vocab, first_row, wanted);                                       \
  }                                                                                                                         \
  KERNEL(log_probs_##type)                                                                                                  \
  extern "C" __global__ void log_probs_vjp_##type(const T* expected, const T* weight, const unsigned* starts,               \
                                                  const unsigned* targets, const float* gradients, T* dh,                   \
                                                  unsigned width) {                                                         \
    log_probs_vjp(expected, weight, starts, targets, gradients, dh, width);                                                 \
  }                                                                                                                         \
  KERNEL(log_probs_vjp_##type)
FOR_EACH_TYPE(HEAD)
