//! A table of a page: texts to the left, numbers to the right with their digits under one another, intervals small beside them.

use std::fmt::Write as _;

use super::html::escape;
use super::ticks::minus;

/// Columns, and rows of as many cells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows, above it.
    pub caption: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// From top to bottom; a row that is too short has empty cells.
    pub rows: Vec<Vec<Cell>>,
    /// A row to point out.
    pub best: Option<usize>,
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number as it is shown, and the ends of its interval.
    Number(String, Option<(String, String)>),
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number with so many decimals; a dash where it is not finite.
    pub fn number(value: f64, decimals: usize) -> Self {
        Self::Number(fixed(value, decimals), None)
    }

    /// A number with its interval.
    pub fn between(value: f64, (low, high): (f64, f64), decimals: usize) -> Self {
        Self::Number(fixed(value, decimals), Some((fixed(low, decimals), fixed(high, decimals))))
    }

    /// A number with its sign, and its interval if there is one.
    pub fn signed(value: f64, interval: Option<(f64, f64)>, decimals: usize) -> Self {
        let sign = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, fixed(value, decimals));
        Self::Number(sign(value), interval.map(|(low, high)| (sign(low), sign(high))))
    }

    /// A share of one as a percentage, and its interval if there is one.
    pub fn percent(share: f64, interval: Option<(f64, f64)>, decimals: usize) -> Self {
        let percent = |share: f64| fixed(100.0 * share, decimals);
        Self::Number(format!("{} %", percent(share)), interval.map(|(low, high)| (percent(low), percent(high))))
    }
}

fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() { minus(&format!("{value:.decimals$}")) } else { "—".to_owned() }
}

impl Table {
    pub(super) fn html(&self) -> String {
        let cells = |index: usize| self.rows.iter().filter_map(move |row| row.get(index));
        let is_number: Vec<bool> =
            (0..self.columns.len()).map(|index| cells(index).any(|cell| matches!(cell, Cell::Number(..)))).collect();
        let has_interval: Vec<bool> =
            (0..self.columns.len()).map(|index| cells(index).any(|cell| matches!(cell, Cell::Number(_, Some(_))))).collect();
        let mut out = "<div class=\"scroll\" tabindex=\"0\"><table>\n".to_owned();
        if !self.caption.is_empty() {
            let _ = writeln!(out, "<caption>{}</caption>", escape(&self.caption));
        }
        out += "<thead><tr>";
        for (index, name) in self.columns.iter().enumerate() {
            let class = if is_number[index] { " class=\"n\"" } else { "" };
            // The interval has a cell of its own, so that numbers with and without one stay aligned.
            let span = if has_interval[index] { "<th></th>" } else { "" };
            let _ = write!(out, "<th scope=\"col\"{class}>{}</th>{span}", escape(name));
        }
        out += "</tr></thead>\n<tbody>\n";
        for (number, row) in self.rows.iter().enumerate() {
            out += if self.best == Some(number) { "<tr class=\"best\">" } else { "<tr>" };
            for (index, has_interval) in has_interval.iter().enumerate() {
                out += &cell(row.get(index), *has_interval);
            }
            out += "</tr>\n";
        }
        out + "</tbody></table></div>\n"
    }
}

fn cell(cell: Option<&Cell>, has_interval: bool) -> String {
    let interval = |ends: Option<&(String, String)>| match (ends, has_interval) {
        (Some((low, high)), _) => format!("<td class=\"ci\">[{}, {}]</td>", escape(low), escape(high)),
        (None, true) => "<td></td>".to_owned(),
        (None, false) => String::new(),
    };
    match cell {
        None => format!("<td></td>{}", interval(None)),
        Some(Cell::Text(text)) => format!("<td>{}</td>{}", escape(text), interval(None)),
        Some(Cell::Number(number, ends)) => format!("<td class=\"n\">{}</td>{}", escape(number), interval(ends.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_the_cells_of_the_header_and_intervals_their_own() {
        let table = Table {
            caption: "A & B".into(),
            columns: vec!["<m>".into(), "margin".into()],
            rows: vec![
                vec![Cell::signed(-1.0, None, 1), Cell::between(0.5, (-0.25, 0.75), 2)],
                vec![Cell::text("mean"), Cell::number(f64::NAN, 2)],
                vec![Cell::percent(0.421, Some((0.4, 0.5)), 1)],
            ],
            best: Some(1),
        };
        let html = table.html();
        assert!(html.contains("<caption>A &amp; B</caption>") && html.contains("&lt;m&gt;"));
        assert!(html.contains("<td class=\"n\">0.50</td><td class=\"ci\">[−0.25, 0.75]</td>"), "{html}");
        assert!(html.contains("<tr class=\"best\"><td>mean</td><td></td><td class=\"n\">—</td><td></td></tr>"), "{html}");
        assert!(html.contains("<td class=\"n\">42.1 %</td><td class=\"ci\">[40.0, 50.0]</td>"), "{html}");
        for row in html.lines().filter(|line| line.starts_with("<tr")) {
            assert_eq!(row.matches("<td").count(), 4, "{row}");
        }
    }
}
