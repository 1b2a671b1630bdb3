// Log-probabilities of tokens from logits, and the gradient of the hidden states. Predictions are sorted by row: those of
// row r are starts[r]..starts[r + 1]. A block a row.
#include "common.cuh"

// logits (rows, vocab) of the rows from `first_row` on → out at those rows' predictions, and where they are wanted
// probabilities (rows, vocab). With a cap the softmax is that of capped logits, the probabilities are times
// their slopes, and out has the slopes at the targets, too, `count` numbers behind. The three passes read a row that the first
// one brought into the cache.
template <bool CAPPED, class T>
__device__ void log_probs(const float* logits, const unsigned* starts, const unsigned* targets, float* out, T* probabilities,
                          unsigned vocab, unsigned first_row, unsigned wanted, float cap, unsigned count) {
  SHARED_MEMORY;
  logits += (size_t)blockIdx.x * vocab;
  float max = -INFINITY;
  for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) max = fmaxf(max, logits[i]);
  max = soft_cap<CAPPED>(block_max(max, shared), cap);
  float sum = 0.0f;
  for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) sum += expf(soft_cap<CAPPED>(logits[i], cap) - max);
  float log_sum = max + logf(block_sum(sum, shared));
  unsigned row = first_row + blockIdx.x;
  for (unsigned i = starts[row] + threadIdx.x; i < starts[row + 1]; i += blockDim.x) {
    float z = soft_cap<CAPPED>(logits[targets[i]], cap);
    out[i] = z - log_sum;
    if (CAPPED) out[count + i] = soft_cap_slope<CAPPED>(z, cap);
  }
  if (!wanted) return;
  probabilities += (size_t)blockIdx.x * vocab;
  for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) {
    float z = soft_cap<CAPPED>(logits[i], cap);
    probabilities[i] = narrow<T>(expf(z - log_sum) * soft_cap_slope<CAPPED>(z, cap));
  }
}

// Σ g·(slope·W[target] − expected[row]) over a row's predictions. weight (vocab, width), expected (rows, width). The slopes are
// 1 where there is no cap.
template <class T>
__device__ void log_probs_vjp(const T* expected, const T* weight, const unsigned* starts, const unsigned* targets,
                              const float* gradients, const float* slopes, T* dh, unsigned width, unsigned is_capped) {
  expected += (size_t)blockIdx.x * width;
  dh += (size_t)blockIdx.x * width;
  unsigned from = starts[blockIdx.x], to = starts[blockIdx.x + 1];
  for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
    float mean = widen(expected[i]), sum = 0.0f;
    for (unsigned at = from; at < to; at++) {
      float slope = is_capped ? slopes[at] : 1.0f;
      sum += gradients[at] * (slope * widen(weight[(size_t)targets[at] * width + i]) - mean);
    }
    dh[i] = narrow<T>(sum);
  }
}

#define HEAD(T, type)                                                                                                       \
  extern "C" __global__ void log_probs_##type(const float* logits, const unsigned* starts, const unsigned* targets,         \
                                              float* out, T* probabilities, unsigned vocab, unsigned first_row,             \
                                              unsigned wanted) {                                                            \
    log_probs<false>(logits, starts, targets, out, probabilities, vocab, first_row, wanted, 0.0f, 0);                       \
  }                                                                                                                         \
  KERNEL(log_probs_##type)                                                                                                  \
  extern "C" __global__ void log_probs_capped_##type(const float* logits, const unsigned* starts, const unsigned* targets,  \
                                                     float* out, T* probabilities, unsigned vocab, unsigned first_row,      \
                                                     unsigned wanted, float cap, unsigned count) {                          \
    log_probs<true>(logits, starts, targets, out, probabilities, vocab, first_row, wanted, cap, count);                     \
  }                                                                                                                         \
  KERNEL(log_probs_capped_##type)                                                                                           \
  extern "C" __global__ void log_probs_vjp_##type(const T* expected, const T* weight, const unsigned* starts,               \
                                                  const unsigned* targets, const float* gradients, const float* slopes,     \
                                                  T* dh, unsigned width, unsigned is_capped) {                              \
    log_probs_vjp(expected, weight, starts, targets, gradients, slopes, dh, width, is_capped);                              \
  }                                                                                                                         \
  KERNEL(log_probs_vjp_##type)
FOR_EACH_TYPE(HEAD)
