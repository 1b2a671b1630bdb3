//! What a product is made of and where it goes: strided views of matrices inside slices, and the destination of the kernels.

use half::bf16;

/// A type of a matrix's elements.
pub trait Element: Copy + Send + Sync {
    /// The number as f32, exactly.
    fn to_f32(self) -> f32;

    /// The bits of the number as bf16, rounded to the nearest, to even where there are two.
    fn bf16_bits(self) -> u32;
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn bf16_bits(self) -> u32 {
        bf16_bits(self)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn bf16_bits(self) -> u32 {
        u32::from(self.to_bits())
    }
}

/// The bits of a number as bf16, as [`bf16::from_f32`] rounds it. Without branches: loops over it become vector instructions.
#[inline(always)]
pub fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if is_nan { bits | 0x0040_0000 } else { rounded }) >> 16
}

/// A strided view of a matrix inside a slice: element (i, j) is at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, E = f32> {
    /// The elements from (0, 0) on.
    pub data: &'a [E],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next: 1, or `row_stride` is 1.
    pub col_stride: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// Rows of `cols` elements, `row_stride` apart.
    pub fn new(data: &'a [E], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Number of elements from the first to the last.
    pub fn extent(&self) -> usize {
        let last = |count: usize, stride: usize| Some(count.checked_sub(1)? * stride);
        last(self.rows, self.row_stride).zip(last(self.cols, self.col_stride)).map_or(0, |(down, right)| down + right + 1)
    }

    /// The first `rows` rows and the others.
    pub fn split_rows(self, rows: usize) -> (Self, Self) {
        let rows = rows.min(self.rows);
        let rest = Self { data: &self.data[(rows * self.row_stride).min(self.data.len())..], rows: self.rows - rows, ..self };
        (Self { rows, ..self }, rest)
    }

    /// The first `cols` columns and the others.
    pub fn split_columns(self, cols: usize) -> (Self, Self) {
        let (left, right) = self.t().split_rows(cols);
        (left.t(), right.t())
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// The right matrix of a product. What its elements are decides how the product is computed: with bf16, the left matrix is rounded
/// to bf16 too. Sums are f32 in either case.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// A product of f32.
    F32(Matrix<'a>),
    /// A product of bf16.
    Bf16(Matrix<'a, bf16>),
}

impl<'a> Right<'a> {
    /// Number of rows and of columns.
    pub fn dims(self) -> (usize, usize) {
        match self {
            Self::F32(matrix) => (matrix.rows, matrix.cols),
            Self::Bf16(matrix) => (matrix.rows, matrix.cols),
        }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        match self {
            Self::F32(matrix) => Self::F32(matrix.t()),
            Self::Bf16(matrix) => Self::Bf16(matrix.t()),
        }
    }
}

impl<'a> From<Matrix<'a>> for Right<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::F32(matrix)
    }
}
/// Whether a product overwrites what its destination holds or is added to it.
#[derive(Clone, Copy, PartialEq)]
pub enum Write {
    /// The destination is overwritten.
    Overwrite,
    /// The product is added to the destination.
    Add,
}

/// Where a kernel writes a product, and the rows that it adds to the product, if any.
#[derive(Clone, Copy)]
pub struct Destination {
    /// Address of the first element that is written.
    pub data: *mut f32,
    /// Address of the first element that is added: `data` itself, or rows that do not overlap those of `data`.
    pub onto: Option<*const f32>,
    /// Elements from a row to the next, in both.
    pub row_stride: usize,
}

// SAFETY: the tasks of a product write different elements, and read no others.
unsafe impl Send for Destination {}
unsafe impl Sync for Destination {}

impl Destination {
    /// The part of the destination that begins at some row and column.
    #[inline(always)]
    pub fn at(self, row: usize, column: usize) -> Self {
        let offset = row * self.row_stride + column;
        let onto = self.onto.map(|onto| onto.wrapping_add(offset));
        Self { data: self.data.wrapping_add(offset), onto, ..self }
    }
}
