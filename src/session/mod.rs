//! A model ready to use, and whether what is to be done with it fits the memory.

pub mod cache_place;
pub mod fit;
