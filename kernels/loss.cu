// The slope of the bi-directional DPO loss at the log-probability of each predicted token. A block a pair.
#include "common.cuh"

// log_probs and owners (count): token i is of the chosen response of pair owners[i] / 2 where owners[i] is even, else of the
// rejected one. beyond (pairs): what a pair's margin / beta has beside these tokens. slopes (count + 1): the last is no
// token's. scale: one over the number of pairs.
// The sum is of terms of either sign, each of them rounded once or twice: off by 1e-4 nats where responses have 1e3, and
// beta times that in the margin.
extern "C" __global__ void dpo_slopes_f32(const float* log_probs, const unsigned* owners, const float* beyond, float* slopes,
                                          unsigned count, float beta, float d, float scale) {
  SHARED_MEMORY;
  float sum = 0.0f;
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) {
    if (owners[i] / 2 == blockIdx.x) sum += owners[i] % 2 ? -log_probs[i] : log_probs[i];
  }
  float margin = beta * (block_sum(sum, shared) + beyond[blockIdx.x]);
  float slope = -scale * d * beta / (1.0f + expf(d * margin)); // of an infinite exponential, 0
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) {
    if (owners[i] / 2 == blockIdx.x) slopes[i] = owners[i] % 2 ? -slope : slope;
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) slopes[count] = 0.0f;
}
KERNEL(dpo_slopes_f32)
