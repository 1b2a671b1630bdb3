//! What a chart is: panels above one another that share the x axis, each with series of points and their intervals. How a chart
//! looks is decided in `draw`.

use std::path::Path;

use super::{Theme, draw, png};
use crate::machine::files::{check_writable, write_atomic};
use crate::{Error, Result};

/// Panels above one another over one x axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    /// What the chart shows: drawn above it in a file, its caption on a page.
    pub title: String,
    /// What is on the x axis.
    pub x_label: String,
    /// How values are laid on the x axis.
    pub x_scale: Scale,
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
}

/// One y axis and what is drawn against it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// What is on the y axis.
    pub y_label: String,
    /// How values are laid on the y axis.
    pub y_scale: Scale,
    /// What is drawn, the first series lowest.
    pub series: Vec<Series>,
    /// A value to compare with, and its name: a dashed line across the panel.
    pub reference: Option<(f64, String)>,
}

/// How values are laid on an axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally long.
    #[default]
    Linear,
    /// Linear, with ticks at whole numbers alone: the axis counts something.
    Whole,
    /// Equal ratios are equally long, if all values are positive and differ by a factor of ten or more; linear otherwise.
    Log,
}

/// Points of one kind. A point that is not finite is left out, with a gap in the line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Name in the legend; a series without a name or without points is not in it.
    pub name: String,
    /// How the series looks.
    pub style: Style,
    /// Which colour of the palette the series has; the colour of its place in the panel if none.
    pub hue: Option<usize>,
    /// Points by ascending x.
    pub points: Vec<Point>,
}

/// How a series looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// A line.
    #[default]
    Line,
    /// A thin pale line: raw values behind smoothed ones.
    Faint,
    /// A line with a marker at each point.
    Dotted,
    /// Markers alone.
    Markers,
}

/// A value at x, and its interval if it has one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// Place on the x axis.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// Low and high end of the value's interval: a shaded band, with a gap where a point has none.
    pub interval: Option<(f64, f64)>,
}

impl Chart {
    /// A chart with a linear x axis.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, panels: Vec<Panel>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), x_scale: Scale::Linear, panels }
    }

    /// The chart as SVG. [`Theme::Page`] follows the colour scheme of the page that holds it; the others have a background.
    pub fn to_svg(&self, theme: Theme) -> String {
        draw::svg(self, theme)
    }

    /// The chart as PNG, two pixels to a CSS pixel. Text needs no font on the machine.
    ///
    /// # Errors
    /// The picture cannot be rendered or encoded.
    pub fn to_png(&self, theme: Theme) -> Result<Vec<u8>> {
        png::png(&self.to_svg(theme))
    }

    /// Writes the light picture to a file whose name ends in `.svg` or `.png`.
    ///
    /// # Errors
    /// The name ends otherwise, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = if is_png(path)? { self.to_png(Theme::Light)? } else { self.to_svg(Theme::Light).into_bytes() };
        write_atomic(path, &bytes)
    }

    /// Refuses a path that no chart can be written to, before anything costly is computed.
    ///
    /// # Errors
    /// The name ends neither in `.svg` nor in `.png`, or its folder does not exist.
    pub fn check_path(path: &Path) -> Result<()> {
        is_png(path)?;
        check_writable(path)
    }
}

fn is_png(path: &Path) -> Result<bool> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(false),
        Some("png") => Ok(true),
        _ => Err(Error::Argument(format!("{}: a chart's file ends in .svg or .png", path.display()))),
    }
}

impl Panel {
    /// A panel with a linear y axis.
    pub fn new(y_label: impl Into<String>, series: Vec<Series>) -> Self {
        Self { y_label: y_label.into(), series, ..Self::default() }
    }
}

impl Series {
    /// A series in the colour of its place in the panel.
    pub fn new(name: impl Into<String>, style: Style, points: Vec<Point>) -> Self {
        Self { name: name.into(), style, hue: None, points }
    }

    /// Gives the series a colour of the palette.
    pub fn hue(self, hue: usize) -> Self {
        Self { hue: Some(hue), ..self }
    }
}

impl Point {
    /// A value without an interval.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, interval: None }
    }

    /// Gives the value an interval.
    pub fn between(self, low: f64, high: f64) -> Self {
        Self { interval: Some((low, high)), ..self }
    }
}
