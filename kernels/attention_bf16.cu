// Attention of bf16 tensors: on tensor cores, but for the widest heads.
#include "attention_tensor.cuh"

TENSOR_KERNELS(bf16, bf16, , false)
