//! What a chart is: panels above one another that share the x axis, each with series of points and their intervals. How a chart
//! looks is decided in `draw`.

use super::axis::Scale;

/// Panels above one another over one x axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    /// What the chart shows: drawn above it in a file, its caption on a page.
    pub title: String,
    /// What is on the x axis.
    pub x_label: String,
    /// How values are laid on the x axis.
    pub x_scale: Scale,
    /// A place on the x axis, and its name: a dashed line through all panels.
    pub mark: Option<(f64, String)>,
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
    /// Names on the y axis in place of numbers: that of each line, from the top, the first of which is at y 0 and the next at
    /// 1. Intervals then lie along the x axis.
    pub names: Vec<String>,
    /// What is drawn, the first series lowest.
    pub series: Vec<Series>,
    /// A value to compare with, and its name: a dashed line across the panel.
    pub reference: Option<(f64, String)>,
}

/// Points of one kind. A point that is not finite is left out, with a gap in the line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Name in the legend; a series without a name or without points is not in it.
    pub name: String,
    /// How the series looks.
    pub style: Style,
    /// Index of the series' colour in the palette; the colour of its place in the panel if none.
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
    /// Value at x.
    pub y: f64,
    /// Low and high end of the value's interval, along the axis that has the values: a shaded band, with a gap where a point has none.
    pub interval: Option<(f64, f64)>,
}

impl Chart {
    /// A chart with a linear x axis.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, panels: Vec<Panel>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), x_scale: Scale::Linear, mark: None, panels }
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
