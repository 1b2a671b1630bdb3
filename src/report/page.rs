//! One self-contained HTML page: no script, no request, nothing but its own bytes. Follows the reader's colour scheme, prints
//! on white, and fits a phone.

use std::fmt::Write as _;
use std::path::Path;

use super::generations::{Colours, Generations};
use super::html::escape;
use super::{Chart, Table, Theme, theme};
use crate::Result;
use crate::machine::files::write_atomic;

const STYLE: &str = include_str!("page.css");

/// Forbids what the page does not do anyway, should a text ever slip through.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// A sentence below it.
    pub summary: String,
    /// The command that makes the page again, as it is pasted into a shell.
    pub command: String,
    /// The seed of everything random, if anything is.
    pub seed: Option<u64>,
    /// Name and value of each setting.
    pub settings: Vec<(String, String)>,
    /// From top to bottom.
    pub sections: Vec<Section>,
}

/// A part of a page under its own heading.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// From top to bottom.
    pub blocks: Vec<Block>,
}

/// What a section holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A picture, its title as a caption.
    Chart(Chart),
    /// Numbers.
    Table(Table),
    /// Texts side by side.
    Generations(Generations),
}

impl Page {
    /// As HTML.
    ///
    /// # Errors
    /// A chart cannot be drawn.
    pub fn to_html(&self) -> Result<String> {
        let title = escape(&self.title);
        let (light, dark) = theme::variables();
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>{title}</title>\n<style>\n:root{{{light}}}\n\
             @media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>{title}</h1>\n"
        );
        if !self.summary.is_empty() {
            let _ = writeln!(out, "<p class=\"summary\">{}</p>", escape(&self.summary));
        }
        out += "</header>\n<main>\n";
        let all = || self.sections.iter().flat_map(|section| &section.blocks);
        let colours = Colours::of(all().filter_map(Block::generations));
        for section in &self.sections {
            out += &section.html(colours)?;
        }
        out += &self.settings_html();
        out += &self.command_html();
        let _ = write!(out, "</main>\n<footer class=\"page\">bipo {}</footer>\n</body>\n</html>\n", env!("CARGO_PKG_VERSION"));
        Ok(out)
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// A chart cannot be drawn, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.to_html()?.as_bytes())
    }

    fn settings_html(&self) -> String {
        if self.settings.is_empty() {
            return String::new();
        }
        let mut out = "<section><h2>Settings</h2>\n<dl>\n".to_owned();
        for (name, value) in &self.settings {
            let _ = writeln!(out, "<div><dt>{}</dt><dd><bdi>{}</bdi></dd></div>", escape(name), escape(value));
        }
        out + "</dl>\n</section>\n"
    }

    fn command_html(&self) -> String {
        if self.command.is_empty() {
            return String::new();
        }
        let seed = self.seed.map_or(String::new(), |seed| format!("<p>Seed <strong>{seed}</strong></p>\n"));
        let command = escape(&self.command);
        format!(
            "<section><h2>Reproduce</h2>\n{seed}<pre class=\"command\" tabindex=\"0\"><code>{command}</code></pre>\n</section>\n"
        )
    }
}

impl Section {
    /// With its first blocks.
    pub fn new(title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { title: title.into(), blocks }
    }

    fn html(&self, colours: Colours) -> Result<String> {
        let mut out = format!("<section><h2>{}</h2>\n", escape(&self.title));
        // Once a section: below it all texts have the same colours.
        if self.blocks.iter().any(|block| block.generations().is_some()) {
            out += &colours.legend();
        }
        for block in &self.blocks {
            match block {
                Block::Text(text) => {
                    let _ = writeln!(out, "<p>{}</p>", escape(text));
                }
                Block::Chart(chart) => {
                    let svg = chart.to_svg(Theme::Page)?;
                    let caption = match chart.title.is_empty() {
                        true => String::new(),
                        false => format!("<figcaption>{}</figcaption>", escape(&chart.title)),
                    };
                    let _ = writeln!(out, "<figure>{caption}<div class=\"scroll\">{svg}</div></figure>");
                }
                Block::Table(table) => out += &table.html(),
                Block::Generations(generations) => out += &generations.html(colours),
            }
        }
        Ok(out + "</section>\n")
    }
}

impl Block {
    fn generations(&self) -> Option<&Generations> {
        match self {
            Self::Generations(generations) => Some(generations),
            _ => None,
        }
    }
}
