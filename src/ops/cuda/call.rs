//! Launches of our own kernels for a GPU, `kernels/*.cu`. An op describes a launch as a [`Call`]; a [`Launcher`] runs it.
//! Knows no op.

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;

/// Threads of a block that works on one row.
const ROW_THREADS: usize = 256;

/// Bytes of a `Part` of kernels/common.cuh.
const PART_BYTES: usize = 16;

/// A file of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Module {
    /// RMSNorm.
    Norm,
    /// Gated activations.
    Gated,
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
    /// Which experts rows go through, and the sums of what these give.
    Routing,
    /// Products with the experts' matrices.
    Grouped,
    /// Attention, a file for each element type.
    Attention,
    /// Attention with soft-capped scores, as well.
    AttentionCapped,
}

impl Module {
    /// Name of its source: `kernels/NAME.cu`.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn source(self, dtype: DType) -> &'static str {
        match (self, dtype) {
            (Self::Norm, _) => "norm",
            (Self::Gated, _) => "gated",
            (Self::Rope, _) => "rope",
            (Self::Head, _) => "head",
            (Self::Loss, _) => "loss",
            (Self::Cache, _) => "cache",
            (Self::Rows, _) => "rows",
            (Self::Routing, _) => "routing",
            (Self::Grouped, _) => "grouped",
            (Self::Attention, DType::F16) => "attention_f16",
            (Self::Attention, DType::BF16) => "attention_bf16",
            (Self::Attention, _) => "attention_f32",
            (Self::AttentionCapped, DType::F16) => "attention_capped_f16",
            (Self::AttentionCapped, DType::BF16) => "attention_capped_bf16",
            (Self::AttentionCapped, _) => "attention_capped_f32",
        }
    }
}

/// The launch of a kernel.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))] // read by what launches
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The file that has the kernel.
    pub module: Module,
    /// The kernel's name without the suffix of the element type.
    pub name: String,
    /// Element type of the kernel's tensors.
    pub dtype: DType,
    /// Number of blocks along x and along y.
    pub grid: [usize; 2],
    /// Number of threads of a block, a multiple of a warp's 32.
    pub threads: usize,
    /// Dynamic shared memory of a block, in numbers of f32.
    pub shared_floats: usize,
    /// The arguments, in the order of the kernel's parameters.
    pub arguments: Vec<Argument<'a>>,
}

/// The value of a kernel's parameter. Tensors are dense.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]
#[derive(Debug, Clone)]
pub(crate) enum Argument<'a> {
    /// A tensor that is only read.
    Read(&'a Tensor, Element),
    /// A tensor that is changed in place: nothing else may use its memory.
    Update(&'a Tensor, Element),
    /// A new tensor of this shape. The kernel writes every element, or nothing reads one.
    Output(Shape, Element),
    /// A whole number.
    U32(u32),
    /// A real number.
    F32(f32),
}

/// The type of the elements that a kernel's pointer points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// The type that the kernel is instantiated for.
    Model,
    /// f32, whatever the kernel is instantiated for.
    F32,
    /// u32, whatever the kernel is instantiated for.
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
    /// The number needs more than 32 bits.
    pub fn size(value: usize) -> Result<Self> {
        let number = u32::try_from(value);
        Ok(Self::U32(number.map_err(|_| candle_core::Error::msg(format!("{value} is too much for a kernel")))?))
    }
}

impl Element {
    pub(super) fn dtype(self, model: DType) -> DType {
        match self {
            Self::Model => model,
            Self::F32 => DType::F32,
            Self::U32 => DType::U32,
        }
    }
}

/// Runs kernels, and matrix products that candle does not have.
pub(crate) trait Launcher {
    /// Runs a checked call. → the outputs, in the order of the arguments.
    fn launch(&self, call: &Call, device: &Device) -> Result<Vec<Tensor>>;

    /// Runs a product whose tensors were checked: x·Wᵀ \[+ `onto`\], rounded once, to `dtype`.
    fn multiply(&self, x: &Tensor, weight: &Tensor, onto: Option<&Tensor>, dtype: DType) -> Result<Tensor>;
}

impl<'a> Call<'a> {
    /// A kernel with a block for each of `rows` rows of `width` elements of `x`'s type.
    pub fn by_row(module: Module, name: &str, x: &Tensor, [rows, width]: [usize; 2]) -> Self {
        let threads = width.next_multiple_of(32).min(ROW_THREADS);
        let (name, grid) = (name.to_owned(), [rows, 1]);
        Self { module, name, dtype: x.dtype(), grid, threads, shared_floats: threads / 32, arguments: Vec::new() }
    }

    /// A kernel with blocks of 256 threads, each of which takes one `Part` of kernels/common.cuh of a row.
    pub fn by_part(module: Module, name: &str, x: &Tensor, [rows, width]: [usize; 2]) -> Self {
        let block = ROW_THREADS * PART_BYTES / x.dtype().size_in_bytes();
        let grid = [rows, width.div_ceil(block)];
        Self { grid, shared_floats: 0, ..Self::by_row(module, name, x, [rows, block]) }
    }

    /// The same launch with these arguments.
    pub fn with(self, arguments: Vec<Argument<'a>>) -> Self {
        Self { arguments, ..self }
    }

    /// Runs the kernel on the device of its tensors. → the outputs, in the order of the arguments.
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

    /// Runs a kernel with this many outputs.
    ///
    /// # Errors
    /// Those of [`Call::launch`].
    pub fn launch_for<const N: usize>(&self, launcher: &dyn Launcher) -> Result<[Tensor; N]> {
        self.launch(launcher)?.try_into().map_err(|_| self.problem("has another number of outputs"))
    }

    /// Runs a kernel with one output.
    ///
    /// # Errors
    /// Those of [`Call::launch`].
    pub fn launch_for_one(&self, launcher: &dyn Launcher) -> Result<Tensor> {
        let [output] = self.launch_for(launcher)?;
        Ok(output)
    }

    /// The device of the tensors, which must be dense, of the types that the arguments name, and all on one device.
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

    /// Whether the kernel reads 16 bytes at a time where a row's length is a multiple of that.
    fn takes_sixteen_bytes(&self) -> bool {
        use Module::{Attention, AttentionCapped, Gated, Grouped, Norm, Routing};
        matches!(self.module, Norm | Gated | Routing | Grouped | Attention | AttentionCapped)
    }

    pub(super) fn problem(&self, problem: &str) -> crate::Error {
        candle_core::Error::msg(format!("kernel {} {problem}", self.name)).into()
    }

    /// The kernel's name in its module.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn entry(&self) -> Result<String> {
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
