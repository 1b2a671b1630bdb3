//! The answers in TruthfulQA's own files: the authors' CSV has several in one cell, separated by `; `, and the hub's Parquet
//! has lists.

use serde_json::Value;

/// Returns the answers of a cell.
pub(super) fn answers(cell: &Value) -> Vec<Value> {
    match cell {
        Value::String(text) => text.split(';').map(str::trim).filter(|answer| !answer.is_empty()).map(Value::from).collect(),
        Value::Array(list) => list.clone(),
        _ => Vec::new(),
    }
}
