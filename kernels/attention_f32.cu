// Attention of f32 tensors.
#include "attention.cuh"

F32_KERNELS(, false)
