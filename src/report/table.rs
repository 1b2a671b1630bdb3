//! A table of a page: texts in its first column, in the others numbers with their digits under one another and intervals small
//! beside them.

use std::fmt;

use serde::Serialize;

/// Columns, and rows of as many cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Table {
    /// What the table shows, above it.
    pub caption: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows from top to bottom.
    pub rows: Vec<Vec<Cell>>,
}

/// A text or a number as it is shown, `-` where there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The text or the number.
    pub value: String,
    /// Low and high end of the number's interval.
    pub interval: Option<(String, String)>,
}

impl Cell {
    /// A cell without an interval.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), interval: None }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.value)?;
        self.interval.iter().try_for_each(|(low, high)| write!(out, " [{low}, {high}]"))
    }
}
