//! Launches kernels and matrix products through candle's CUDA device. All that a test without a GPU cannot reach is in this
//! file.
#![allow(unsafe_code)] // launches, matrix products, memory that they fill, an option of the driver

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cublas;
use candle_core::cuda_backend::cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DevicePtr, LaunchConfig, PushKernelArg, SyncOnDrop, result};
use candle_core::{CudaStorage, DType, Device, Storage, Tensor};
use half::{bf16, f16};

use super::call::{Argument, Call, Launcher};
use crate::Result;

/// Name of each source in `kernels/`, and the PTX that build.rs made of it.
const PTX: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// The GPU that the tensors are on.
pub(super) struct Cuda;

/// A parameter as the driver takes it.
enum KernelArgument {
    Pointer(u64),
    U32(u32),
    F32(f32),
}

impl Launcher for Cuda {
    fn launch(&self, call: &Call, device: &Device) -> Result<Vec<Tensor>> {
        let gpu = device.as_cuda_device()?;
        let source = call.module.source(call.dtype);
        let (_, ptx) = PTX.iter().find(|(name, _)| *name == source).ok_or_else(|| call.problem("has no PTX"))?;
        let kernel = gpu.get_or_load_custom_func(&call.entry()?, &format!("bipo_{source}"), ptx)?;
        let new = call.arguments.iter().filter_map(|argument| match argument {
            // SAFETY: the kernel writes every element that is read, and nothing reads before it on the device's one stream.
            Argument::Output(shape, element) => Some(unsafe { Tensor::empty(shape, element.dtype(call.dtype), device) }),
            _ => None,
        });
        let outputs: Vec<Tensor> = new.collect::<candle_core::Result<_>>()?;
        let mut rest = outputs.iter();
        let tensors = call.arguments.iter().filter_map(|argument| match argument {
            Argument::Read(tensor, _) | Argument::Update(tensor, _) => Some(*tensor),
            Argument::Output(..) => rest.next(),
            _ => None,
        });
        // The storages stay locked, and the pointers' events pending, until the launch is queued.
        let storages: Vec<_> = tensors.map(Tensor::storage_and_layout).collect();
        let stream = gpu.cuda_stream();
        let mut pointers = Vec::with_capacity(storages.len());
        for (storage, layout) in &storages {
            let Storage::Cuda(storage) = &**storage else { return Err(call.problem("got a tensor that is not on a GPU")) };
            pointers.push(pointer(storage, layout.start_offset(), &stream)?);
        }
        let mut addresses = pointers.iter().map(|(address, _)| *address);
        let values: Vec<KernelArgument> = call
            .arguments
            .iter()
            .map(|argument| match argument {
                Argument::U32(number) => Some(KernelArgument::U32(*number)),
                Argument::F32(number) => Some(KernelArgument::F32(*number)),
                _ => addresses.next().map(KernelArgument::Pointer),
            })
            .collect::<Option<_>>()
            .ok_or_else(|| call.problem("got too few tensors"))?;
        let mut launch = kernel.builder();
        for value in &values {
            match value {
                KernelArgument::Pointer(address) => launch.arg(address),
                KernelArgument::U32(number) => launch.arg(number),
                KernelArgument::F32(number) => launch.arg(number),
            };
        }
        let [x, y] = call.grid.map(|blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
        let config = LaunchConfig {
            grid_dim: (x, y, 1),
            block_dim: (call.threads as u32, 1, 1),
            shared_mem_bytes: 4 * call.shared_floats as u32,
        };
        // SAFETY: number, kinds and types of the arguments are those of the kernel's parameters, which the tests check
        // against the sources; the tensors are dense, of these types, on this device.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        drop(pointers);
        drop(storages);
        Ok(outputs)
    }

    fn multiply(&self, x: &Tensor, weight: &Tensor, onto: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
        let ((rows, inner), (outputs, _)) = (x.dims2()?, weight.dims2()?);
        let gpu = x.device().as_cuda_device()?;
        let y = match onto {
            Some(onto) => onto.copy()?,
            // SAFETY: the product writes every element, and nothing reads before it on the device's one stream.
            None => unsafe { Tensor::empty((rows, outputs), dtype, x.device())? },
        };
        let stream = gpu.cuda_stream();
        let storages = [x, weight, &y].map(Tensor::storage_and_layout);
        let mut pointers = Vec::with_capacity(storages.len());
        for (storage, layout) in &storages {
            let Storage::Cuda(storage) = &**storage else {
                return Err(candle_core::Error::msg("a product got a tensor that is not on a GPU").into());
            };
            pointers.push(pointer(storage, layout.start_offset(), &stream)?);
        }
        let [x_at, weight_at, y_at] = [0, 1, 2].map(|i| pointers[i].0 as *mut c_void);
        let (of_factors, of_sums) = (cuda_type(x.dtype()), cuda_type(dtype));
        let [one, keep] = [1f32, if onto.is_some() { 1.0 } else { 0.0 }];
        let (blas, [m, n, k]) = (gpu.cublas_handle(), [outputs, rows, inner].map(|size| size as i32));
        // What is row-major here is column-major and transposed there: yᵀ (O, T) = W·xᵀ.
        // SAFETY: types and sizes are those of the tensors, which are dense and on this device; nobody else holds y.
        let done = unsafe {
            cublas::result::gemm_ex(
                *blas.handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                m,
                n,
                k,
                std::ptr::from_ref(&one).cast(),
                weight_at,
                of_factors,
                k,
                x_at,
                of_factors,
                k,
                std::ptr::from_ref(&keep).cast(),
                y_at,
                of_sums,
                m,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        done.map_err(candle_core::Error::wrap)?;
        drop(pointers);
        drop(storages);
        Ok(y)
    }
}

fn cuda_type(dtype: DType) -> cudaDataType {
    match dtype {
        DType::F16 => cudaDataType::CUDA_R_16F,
        DType::BF16 => cudaDataType::CUDA_R_16BF,
        _ => cudaDataType::CUDA_R_32F,
    }
}

/// Keeps freed memory for the next allocation: the driver's default is to give it back to the system whenever the host waits
/// for the device, as each step and each token does, and every buffer would be mapped again.
pub(super) fn keep_freed_memory(device: &Device) -> Result<()> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut everything = u64::MAX;
    // SAFETY: the context's own device, its default pool, and a number of the type that this attribute has.
    let set = unsafe {
        result::device::get_default_mem_pool(context.cu_device()).and_then(|pool| {
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, attribute, std::ptr::from_mut(&mut everything).cast())
        })
    };
    Ok(set.map_err(candle_core::Error::wrap)?)
}

/// Address of a tensor's first element.
fn pointer<'a>(storage: &'a CudaStorage, offset: usize, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)> {
    let dtype = candle_core::backend::BackendStorage::dtype(storage);
    let (address, pending) = match dtype {
        DType::F16 => storage.as_cuda_slice::<f16>()?.device_ptr(stream),
        DType::BF16 => storage.as_cuda_slice::<bf16>()?.device_ptr(stream),
        DType::U32 => storage.as_cuda_slice::<u32>()?.device_ptr(stream),
        _ => storage.as_cuda_slice::<f32>()?.device_ptr(stream),
    };
    Ok((address + (offset * dtype.size_in_bytes()) as u64, pending))
}
