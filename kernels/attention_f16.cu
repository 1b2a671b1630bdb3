// Attention of f16 tensors, on tensor cores.
#include "attention_tensor.cuh"

TENSOR_KERNELS(f16, f16, , false)
