//! What a product is made of and where it goes: strided views of matrices inside slices, and the destination of the kernels.

/// A strided view of a matrix inside a slice: element (i, j) is at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// The elements from (0, 0) on.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next: 1, or `row_stride` is 1.
    pub col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `cols` elements, `row_stride` apart.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
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
