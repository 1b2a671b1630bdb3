//! What a vector does, measured.

pub mod judge;
