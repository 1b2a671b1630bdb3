// Attention of bf16 tensors.
#include "attention.cuh"

ATTENTION(bf16, bf16)
