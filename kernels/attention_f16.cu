// Attention of f16 tensors.
#include "attention.cuh"

ATTENTION(f16, f16)
