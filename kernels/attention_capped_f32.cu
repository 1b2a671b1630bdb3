// Attention of f32 tensors with soft-capped scores.
#include "attention.cuh"

F32_KERNELS(capped_, true)
