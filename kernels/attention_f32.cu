// Attention of f32 tensors.
#include "attention.cuh"

ATTENTION(float, f32)
