//! What `bipo layers` is made of: the table of the candidates, the command that trains the winner, and the progress of all runs.

pub mod command;
pub mod observer;
pub mod report;
