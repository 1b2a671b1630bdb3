//! What a chart is: panels above one another that share the x axis, each with series of points and their intervals. How it
//! looks is the business of `draw`.

use std::path::Path;

use super::{Theme, draw, png};
use crate::machine::files::{check_writable, write_atomic};
use crate::{Error, Result};

/// Panels above one another over one x axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    /// What it shows; above it in a file, its caption on a page.
    pub title: String,
    /// What is on the x axis.
    pub x_label: String,
    /// Whether x counts something: ticks are whole numbers then.
    pub x_whole: bool,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// One y axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// What is on it.
    pub y_label: String,
    /// How values are laid on it.
    pub scale: Scale,
    /// What is drawn, the first one lowest.
    pub series: Vec<Series>,
    /// A value to compare with, and its name: a dashed line across.
    pub reference: Option<(f64, String)>,
    /// An x to point out, and its name.
    pub mark: Option<(f64, String)>,
}

/// How values are laid on an axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally long.
    #[default]
    Linear,
    /// Equal ratios are equally long; values of at most 0 are left out.
    Log,
}

/// Points of one kind. Those that are not finite are left out, with a gap in the line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Name in the legend; none without one.
    pub name: String,
    /// How it looks.
    pub style: Style,
    /// Which colour of the palette; its place in the panel if none.
    pub hue: Option<usize>,
    /// x and y, by ascending x.
    pub points: Vec<(f64, f64)>,
    /// Low and high of each point's interval, shaded.
    pub band: Option<Vec<(f64, f64)>>,
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
    /// Markers whose intervals are bars: for an x between whose values there is nothing.
    Bars,
}

/// A measured value at x, with an interval if there is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Where.
    pub x: f64,
    /// The value.
    pub value: f64,
    /// Low and high.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// A value without an interval.
    pub fn new(x: f64, value: f64) -> Self {
        Self { x, value, interval: None }
    }

    /// The same with one.
    pub fn between(self, low: f64, high: f64) -> Self {
        Self { interval: Some((low, high)), ..self }
    }
}

impl Chart {
    /// Without panels.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), ..Self::default() }
    }

    /// With one more panel below.
    pub fn panel(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }

    /// As SVG. [`Theme::Page`] follows the colour scheme of the page that it is part of; the others have a background.
    ///
    /// # Errors
    /// The drawing backend fails.
    pub fn to_svg(&self, theme: Theme) -> Result<String> {
        draw::svg(self, theme)
    }

    /// As PNG, two pixels to a CSS pixel. Text needs no font on the machine.
    ///
    /// # Errors
    /// The drawing backend fails.
    pub fn to_png(&self, theme: Theme) -> Result<Vec<u8>> {
        png::png(&self.to_svg(theme)?)
    }

    /// Writes the light picture to a file, `.svg` or `.png`.
    ///
    /// # Errors
    /// Another extension, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = match Format::of(path)? {
            Format::Svg => self.to_svg(Theme::Light)?.into_bytes(),
            Format::Png => self.to_png(Theme::Light)?,
        };
        write_atomic(path, &bytes)
    }

    /// Refuses a path that no chart can be written to: cheap to know before anything costly.
    ///
    /// # Errors
    /// Another extension, or a folder that does not exist.
    pub fn check_path(path: &Path) -> Result<()> {
        Format::of(path)?;
        check_writable(path)
    }
}

/// What the extension of a chart's file says.
enum Format {
    Svg,
    Png,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(Error::Argument(format!("{}: a chart's file ends in .svg or .png", path.display()))),
        }
    }
}

impl Panel {
    /// Without series.
    pub fn new(y_label: impl Into<String>) -> Self {
        Self { y_label: y_label.into(), ..Self::default() }
    }

    /// With one more series.
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// On a logarithmic axis.
    pub fn log(self) -> Self {
        Self { scale: Scale::Log, ..self }
    }

    /// With a line at a value.
    pub fn reference(self, value: f64, name: impl Into<String>) -> Self {
        Self { reference: Some((value, name.into())), ..self }
    }

    /// With an x pointed out.
    pub fn mark(self, x: f64, name: impl Into<String>) -> Self {
        Self { mark: Some((x, name.into())), ..self }
    }
}

impl Series {
    /// Points in a style.
    pub fn new(name: impl Into<String>, style: Style, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), style, points, ..Self::default() }
    }

    /// Measured values, dotted, their intervals shaded.
    pub fn estimates(name: impl Into<String>, estimates: &[Estimate]) -> Self {
        let points = estimates.iter().map(|e| (e.x, e.value)).collect();
        let has_intervals = estimates.iter().any(|e| e.interval.is_some());
        let band = has_intervals.then(|| estimates.iter().map(|e| e.interval.unwrap_or((e.value, e.value))).collect());
        Self { band, ..Self::new(name, Style::Dotted, points) }
    }

    /// In another style.
    pub fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }

    /// In this colour of the palette.
    pub fn hue(self, hue: usize) -> Self {
        Self { hue: Some(hue), ..self }
    }
}
