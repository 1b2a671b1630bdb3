//! One self-contained HTML page: no script, no request, nothing but its own bytes. Follows the reader's colour scheme, prints
//! on white, and fits a phone. The template `page.html` says what is where; here are its data.

use std::path::Path;

use minijinja::{AutoEscape, Environment, Value, context};

use super::generations::{Generations, signed};
use super::html::escape;
use super::{Chart, Table, draw, theme};
use crate::machine::files::write_atomic;
use crate::{Error, Result};

/// A web page: title, command, settings and sections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Title of the page.
    pub title: String,
    /// A sentence below the title.
    pub summary: String,
    /// The command that makes the page again, as it is pasted into a shell.
    pub command: String,
    /// The seed of everything random, if anything is.
    pub seed: Option<u64>,
    /// Name and value of each setting.
    pub settings: Vec<(String, String)>,
    /// Sections from top to bottom.
    pub sections: Vec<Section>,
}

/// A part of a page under its own heading.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// Heading of the section.
    pub title: String,
    /// What is below the heading, from top to bottom.
    pub blocks: Vec<SectionPart>,
}

/// What a section holds.
#[derive(Debug, Clone, PartialEq)]
pub enum SectionPart {
    /// A paragraph of text.
    Text(String),
    /// A picture, its title as a caption.
    Chart(Chart),
    /// A table of numbers.
    Table(Table),
    /// Texts side by side.
    Generations(Generations),
}

impl Page {
    /// The page as HTML.
    ///
    /// # Errors
    /// The template fails.
    pub fn to_html(&self) -> Result<String> {
        self.render().map_err(|error| Error::Draw(error.to_string()))
    }

    /// Writes the page to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.to_html()?.as_bytes())
    }

    fn render(&self) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_keep_trailing_newline(true);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_formatter(|out, _, value| match value.as_str() {
            Some(text) if !value.is_safe() => Ok(out.write_str(&escape(text))?),
            _ => Ok(write!(out, "{value}")?),
        });
        let (light, dark) = theme::variables();
        let blocks = self.sections.iter().flat_map(|section| &section.blocks);
        let largest = blocks.flat_map(SectionPart::magnitudes).filter(|size| size.is_finite()).fold(0.0, f64::max);
        // A series is explained once a page, where it is drawn first.
        let mut legend = Vec::new();
        let section = |section: &Section| {
            let blocks: Vec<Value> = section.blocks.iter().map(|block| block.data(largest, &mut legend)).collect();
            context! { title => section.title, blocks }
        };
        environment.render_named_str(
            "page.html",
            include_str!("page.html"),
            context! {
                title => self.title, summary => self.summary, command => self.command, seed => self.seed,
                settings => self.settings, sections => self.sections.iter().map(section).collect::<Vec<_>>(),
                scale => [signed(-largest), signed(largest)], light, dark, style => include_str!("page.css"), version => env!("CARGO_PKG_VERSION"),
            },
        )
    }
}

impl Section {
    /// A section with its blocks.
    pub fn new(title: impl Into<String>, blocks: Vec<SectionPart>) -> Self {
        Self { title: title.into(), blocks }
    }
}

impl SectionPart {
    /// Sizes of the magnitudes that a block shows in colour.
    fn magnitudes(&self) -> impl Iterator<Item = f64> {
        let answers = if let Self::Generations(generations) = self { generations.answers.as_slice() } else { &[] };
        answers.iter().filter_map(|answer| Some(answer.magnitude?.abs()))
    }

    /// What the template knows of a block; it tells the kinds apart by their names.
    fn data(&self, largest: f64, explained: &mut Vec<(String, String)>) -> Value {
        match self {
            Self::Text(text) => context! { text },
            Self::Chart(chart) => {
                context! { title => chart.title, legend => legend(chart, explained), panels => draw::panels(chart) }
            }
            Self::Table(table) => context! { table },
            Self::Generations(generations) => generations.data(largest),
        }
    }
}

/// Name and sign of the chart's series that were not explained before.
fn legend(chart: &Chart, explained: &mut Vec<(String, String)>) -> Vec<(String, String)> {
    let before = explained.len();
    for entry in chart.panels.iter().flat_map(draw::legend) {
        if !explained.contains(&entry) {
            explained.push(entry);
        }
    }
    explained[before..].to_vec()
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
