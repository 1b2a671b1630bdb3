//! In which order the products of a pass add.

/// How the order of additions in the products of a pass is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Products {
    /// Whatever is fastest for the number of rows.
    #[default]
    Fastest,
    /// On the CPU, the same order for any number of rows, so that a row has the same bits alone and in a batch. On other devices
    /// this is the same as [`Products::Fastest`].
    BatchInvariant,
}
