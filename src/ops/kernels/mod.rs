//! Own kernels for a GPU: `kernels/*.cu`, and the PTX that `build.rs` makes of them. An op describes a launch as a
//! [`Call`]; a [`Launcher`] runs it: CUDA, or in the tests the same sources on the CPU, so that only the driver's calls are
//! never tested without a GPU. Knows no op.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod emulator;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use emulator::emulated;

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;

/// Threads of a block that works on one row.
const ROW_THREADS: usize = 256;

/// A file of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Module {
    /// RMSNorm.
    Norm,
    /// SwiGLU.
    Swiglu,
    /// Rotary position embedding.
    Rope,
    /// Log-probabilities.
    Head,
    /// Slopes of the loss.
    Loss,
    /// Rows of a key-value cache.
    Cache,
    /// Rows taken out and put back.
    Rows,
    /// Attention, a file for each element type.
    Attention,
}

impl Module {
    /// Name of its source: `kernels/NAME.cu`.
    #[cfg(any(test, feature = "cuda"))]
    fn source(self, dtype: DType) -> &'static str {
        match (self, dtype) {
            (Self::Norm, _) => "norm",
            (Self::Swiglu, _) => "swiglu",
            (Self::Rope, _) => "rope",
            (Self::Head, _) => "head",
            (Self::Loss, _) => "loss",
            (Self::Cache, _) => "cache",
            (Self::Rows, _) => "rows",
            (Self::Attention, DType::F16) => "attention_f16",
            (Self::Attention, DType::BF16) => "attention_bf16",
            (Self::Attention, _) => "attention_f32",
        }
    }
}

/// One launch.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))] // read by what launches
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Where the kernel is.
    pub module: Module,
    /// Its name without the suffix of the element type.
    pub name: String,
    /// Element type of its tensors.
    pub dtype: DType,
    /// Blocks: x, y.
    pub grid: [usize; 2],
    /// Threads of a block: whole warps.
    pub threads: usize,
    /// Dynamic shared memory of a block, in f32.
    pub shared_floats: usize,
    /// In the order of the kernel's parameters.
    pub arguments: Vec<Argument<'a>>,
}

/// A parameter's value. A tensor is dense; `of` the element type, or of the type that is named.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]
#[derive(Debug, Clone)]
pub(crate) enum Argument<'a> {
    /// Read alone.
    Read(&'a Tensor, Element),
    /// Changed in place: nobody else may hold this memory.
    Update(&'a Tensor, Element),
    /// A new tensor of this shape: every element is written, or none is read.
    Output(Shape, Element),
    U32(u32),
    F32(f32),
}

/// What a kernel's pointer points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// The type that the kernel is instantiated for.
    Model,
    F32,
    U32,
}

impl<'a> Argument<'a> {
    /// A tensor of the kernel's element type.
    pub fn read(tensor: &'a Tensor) -> Self {
        Self::Read(tensor, Element::Model)
    }

    /// A new tensor of the kernel's element type.
    pub fn output(shape: impl Into<Shape>) -> Self {
        Self::Output(shape.into(), Element::Model)
    }

    /// A size or an index.
    ///
    /// # Errors
    /// It is beyond 32 bits.
    pub fn size(value: usize) -> Result<Self> {
        let number = u32::try_from(value);
        Ok(Self::U32(number.map_err(|_| candle_core::Error::msg(format!("{value} is too much for a kernel")))?))
    }
}

impl Element {
    fn dtype(self, model: DType) -> DType {
        match self {
            Self::Model => model,
            Self::F32 => DType::F32,
            Self::U32 => DType::U32,
        }
    }
}

/// What runs kernels, and matrix products that candle has not.
pub(crate) trait Launcher {
    /// Runs a checked call. → the outputs, in the order of the arguments.
    fn launch(&self, call: &Call, device: &Device) -> Result<Vec<Tensor>>;

    /// Runs a checked [`product`].
    fn multiply(&self, x: &Tensor, weight: &Tensor, onto: Option<&Tensor>, dtype: DType) -> Result<Tensor>;
}

/// x·Wᵀ \[+ `onto (T, O)`, of `dtype`\] with its sums in f32, rounded once, to `dtype`: x's own, or f32. candle's product is
/// rounded to x's type before anything is added to it. `x (T, I)`, `weight (O, I)` → `(T, O)`
///
/// # Errors
/// The tensors do not fit each other, or the driver fails.
pub(crate) fn product(
    launcher: &dyn Launcher,
    x: &Tensor,
    weight: &Tensor,
    onto: Option<&Tensor>,
    dtype: DType,
) -> Result<Tensor> {
    let ((rows, inner), (outputs, width)) = (x.dims2()?, weight.dims2()?);
    let fits = inner == width && weight.dtype() == x.dtype() && [x.dtype(), DType::F32].contains(&dtype);
    let onto_fits = onto.is_none_or(|onto| onto.dims() == [rows, outputs] && onto.dtype() == dtype);
    let is_dense = weight.is_contiguous() && [rows, inner, outputs].into_iter().all(|size| i32::try_from(size).is_ok());
    if !(fits && onto_fits && is_dense) {
        return Err(candle_core::Error::msg("a product got tensors that do not fit each other").into());
    }
    if rows == 0 {
        return Ok(Tensor::zeros((0, outputs), dtype, x.device())?);
    }
    launcher.multiply(&x.contiguous()?, weight, onto.map(Tensor::contiguous).transpose()?.as_ref(), dtype)
}

/// To be called before a model is loaded on `device`.
///
/// # Errors
/// The driver fails.
pub(crate) fn prepare(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return cuda::keep_freed_memory(device);
    }
    let _ = device;
    Ok(())
}

/// What runs kernels on `device`, where something does.
pub(crate) fn launcher(device: &Device) -> Option<&'static dyn Launcher> {
    #[cfg(test)]
    if emulator::is_on() {
        return Some(&emulator::Emulator);
    }
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return Some(&cuda::Cuda);
    }
    let _ = device;
    None
}

impl<'a> Call<'a> {
    /// A kernel with a block for each of `rows` rows of `width` elements of `x`'s type.
    pub fn by_row(module: Module, name: &str, x: &Tensor, [rows, width]: [usize; 2]) -> Self {
        let threads = width.next_multiple_of(32).min(ROW_THREADS);
        let (name, grid) = (name.to_owned(), [rows, 1]);
        Self { module, name, dtype: x.dtype(), grid, threads, shared_floats: threads / 32, arguments: Vec::new() }
    }

    /// With these parameters.
    pub fn with(self, arguments: Vec<Argument<'a>>) -> Self {
        Self { arguments, ..self }
    }

    /// Runs it on the device of its tensors. → the outputs, in the order of the arguments.
    ///
    /// # Errors
    /// A tensor is not what the kernel takes, or the driver fails.
    pub fn launch(&self, launcher: &dyn Launcher) -> Result<Vec<Tensor>> {
        let device = self.check()?;
        if self.grid.contains(&0) {
            let empty = self.arguments.iter().filter_map(|argument| match argument {
                Argument::Output(shape, element) => Some(Tensor::zeros(shape, element.dtype(self.dtype), &device)),
                _ => None,
            });
            return Ok(empty.collect::<candle_core::Result<_>>()?);
        }
        launcher.launch(self, &device)
    }

    /// [`Call::launch`] of a kernel with one output.
    ///
    /// # Errors
    /// As there.
    pub fn launch_for_one(&self, launcher: &dyn Launcher) -> Result<Tensor> {
        let mut outputs = self.launch(launcher)?;
        outputs.pop().ok_or_else(|| self.problem("has no output"))
    }

    /// The device of its tensors: dense, of their types, and all in one place.
    fn check(&self) -> Result<Device> {
        let mut device: Option<Device> = None;
        for argument in &self.arguments {
            let (Argument::Read(tensor, element) | Argument::Update(tensor, element)) = argument else { continue };
            if !tensor.is_contiguous() || tensor.dtype() != element.dtype(self.dtype) {
                return Err(self.problem("got a tensor with gaps or of another type"));
            }
            if *element != Element::U32 && self.takes_sixteen_bytes() && is_torn(tensor) {
                return Err(self.problem("got rows that do not begin at a multiple of 16 bytes"));
            }
            match &device {
                Some(device) if !device.same_device(tensor.device()) => return Err(self.problem("got tensors of two devices")),
                _ => device = Some(tensor.device().clone()),
            }
        }
        device.ok_or_else(|| self.problem("got no tensor"))
    }

    /// Whether it reads rows of a multiple of 16 bytes by as many at a time.
    fn takes_sixteen_bytes(&self) -> bool {
        matches!(self.module, Module::Norm | Module::Swiglu | Module::Attention)
    }

    fn problem(&self, problem: &str) -> crate::Error {
        candle_core::Error::msg(format!("kernel {} {problem}", self.name)).into()
    }

    /// The kernel's name in its module.
    #[cfg(any(test, feature = "cuda"))]
    fn entry(&self) -> Result<String> {
        let suffix = match self.dtype {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            other => return Err(self.problem(&format!("does not take {other:?}"))),
        };
        Ok(format!("{}_{suffix}", self.name))
    }
}

/// Whether a view's rows could be read 16 bytes at a time by their length, and not by where they begin.
fn is_torn(tensor: &Tensor) -> bool {
    let size = tensor.dtype().size_in_bytes();
    let [row, start] = [tensor.dims().last().copied().unwrap_or(0), tensor.layout().start_offset()].map(|count| count * size);
    row.is_multiple_of(16) && !start.is_multiple_of(16)
}
