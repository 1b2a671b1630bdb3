// Attention of f16 tensors with soft-capped scores, on tensor cores.
#include "attention_tensor.cuh"

TENSOR_KERNELS(f16, f16, capped_, true)
