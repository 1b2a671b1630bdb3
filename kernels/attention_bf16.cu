// Attention of bf16 tensors, on tensor cores.
#include "attention_tensor.cuh"

TENSOR_KERNELS(bf16, bf16, , false)
