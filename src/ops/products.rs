//! In which order, and how exactly, the products of a pass add.

/// How the products of a pass are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Products {
    /// Whatever is fastest for the number of rows.
    #[default]
    Fastest,
    /// The same order of additions for any number of rows on the CPU, so that a row has the same bits alone and in a batch. On
    /// other devices this is the same as [`Products::Fastest`].
    BatchInvariant,
    /// Order of additions of [`Products::BatchInvariant`], but in whole numbers where a weight on the CPU is encoded in whole
    /// numbers and the processor multiplies them fast: the left rows are rounded to 8 bits, with a factor for each block of 32
    /// elements.
    Integer,
}
