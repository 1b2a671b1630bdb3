// Attention of f16 tensors: on tensor cores, but for the widest heads.
#include "attention_tensor.cuh"

TENSOR_KERNELS(f16, f16, , false)
