//! What `bipo layers` is made of: the table of the candidates, the command that trains the winner, and the progress of all runs.
//!
//! It trains nothing itself. Begin with `report`, the ranking of the candidates.

pub mod command;
pub mod observer;
pub mod report;
