// Attention of f32 tensors. The kernels "few" are for segments of few queries each, as the branches of a sweep.
#include "attention.cuh"

FORWARD_KERNEL(float, f32, 64, forward<float, 64, 32, 32>)
FORWARD_KERNEL(float, f32, 128, forward<float, 128, 32, 32>)
FORWARD_KERNEL(float, f32, few_64, forward<float, 64, 8, 32>)
FORWARD_KERNEL(float, f32, few_128, forward<float, 128, 8, 32>)
VJP_Q_KERNEL(float, f32, 64, vjp_q<float, 64, 32>)
VJP_Q_KERNEL(float, f32, 128, vjp_q<float, 128, 16>)
VJP_KV_KERNEL(float, f32, 64, vjp_kv<float, 64, 32>)
VJP_KV_KERNEL(float, f32, 128, vjp_kv<float, 128, 16>)
WIDEST_KERNELS(float, f32)
