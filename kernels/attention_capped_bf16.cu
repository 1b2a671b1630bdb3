// Attention of bf16 tensors with soft-capped scores, on tensor cores.
#include "attention_tensor.cuh"

TENSOR_KERNELS(bf16, bf16, capped_, true)
