//! Draws a chart as SVG: for each panel a header with its label and legend, then the grid, intervals, lines and markers. A file
//! has all panels above one another; a page has each by itself, so that it can put them beside one another where there is room,
//! and one legend for all. All lengths are CSS pixels; all colours are CSS variables until [`paint`].

use std::fmt::Write as _;

use super::axis::Axis;
use super::chart::{Chart, Panel, Point, Series, Style};
use super::html::escape;
use super::theme::{HUES, Theme, paint};

/// How a drawing is laid out.
struct Frame {
    width: f64,
    /// Height of a panel between its axes.
    plot: f64,
    /// Width of the name of a reference, at most.
    reference: f64,
    /// Whether it stands alone, with background, title and legends.
    is_alone: bool,
}

impl Frame {
    /// Height of this panel between its axes.
    fn plot_of(&self, panel: &Panel) -> f64 {
        if panel.names.is_empty() { self.plot } else { LINE * panel.names.len() as f64 }
    }
}

const MARGIN: f64 = 14.0;
/// Room for the right half of the x axis' last label.
const RIGHT_MARGIN: f64 = 24.0;
const TITLE: f64 = 34.0;
/// Height of one line of a panel's label and legend.
const HEADER: f64 = 22.0;
const BETWEEN: f64 = 16.0;
/// Height of a line of a panel whose y axis has names.
const LINE: f64 = 30.0;
/// Height of the x axis' labels below the last panel.
const FOOT: f64 = 50.0;
const SWATCH: f64 = 18.0;

/// Kinds of text: size, colour and what its place is.
const HEADING: &str = "font-size=\"16\" fill=\"var(--text)\"";
const LABEL: &str = "font-size=\"13\" fill=\"var(--text)\"";
const X_LABEL: &str = "font-size=\"13\" fill=\"var(--text)\" text-anchor=\"middle\"";
const NAME: &str = "font-size=\"12\" fill=\"var(--text)\"";
const MUTED_NAME: &str = "font-size=\"12\" fill=\"var(--muted)\"";
const X_TICK: &str = "font-size=\"12\" fill=\"var(--muted)\" text-anchor=\"middle\"";
const Y_TICK: &str = "font-size=\"12\" fill=\"var(--muted)\" text-anchor=\"end\"";

/// The shape of a marker from its centre, for each hue: printed in grey, series stay apart.
const MARKERS: [&str; HUES] = [
    "m-3.8 0a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0 -7.6 0z",
    "m-3.4 -3.4h6.8v6.8h-6.8z",
    "m0 -4.8l4.4 7.8h-8.8z",
    "m0 -4.9l4.9 4.9l-4.9 4.9l-4.9 -4.9z",
    "m0 4.8l4.4 -7.8h-8.8z",
    "m-1.5 -4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
];

/// The chart as SVG.
pub(super) fn svg(chart: &Chart, theme: Theme) -> String {
    let plot = [280.0, 280.0, 190.0].get(chart.panels.len()).copied().unwrap_or(140.0);
    paint(draw(chart, &Frame { width: 680.0, plot, reference: 120.0, is_alone: true }), theme)
}

/// Each panel as an SVG of a page, without a legend.
pub(super) fn panels(chart: &Chart) -> Vec<String> {
    let frame = Frame { width: 380.0, plot: 170.0, reference: 70.0, is_alone: false };
    let panel =
        |panel: &Panel| draw(&Chart { title: panel.y_label.clone(), panels: vec![panel.clone()], ..chart.clone() }, &frame);
    chart.panels.iter().map(panel).collect()
}

/// Name and sign of each series of a panel in a legend of a page.
pub(super) fn legend(panel: &Panel) -> Vec<(String, String)> {
    let sign = |(index, series): (usize, &Series)| {
        let (mut sign, y) = (String::new(), HEADER / 2.0);
        Pen::of(series, index).sign(series, panel, (0.0, y), &mut sign);
        let svg = format!("<svg width=\"{SWATCH}\" height=\"{HEADER}\" aria-hidden=\"true\" fill=\"none\">{sign}</svg>");
        (series.name.clone(), svg)
    };
    panel.series.iter().enumerate().filter(|(_, series)| is_named(series)).map(sign).collect()
}

fn is_named(series: &Series) -> bool {
    !series.name.is_empty() && !series.points.is_empty()
}

fn draw(chart: &Chart, frame: &Frame) -> String {
    let width = frame.width;
    let y_axes: Vec<Axis> = chart.panels.iter().map(|panel| y_axis(panel, frame)).collect();
    let labels = y_axes.iter().flat_map(Axis::ticks).map(|(_, label)| width_of(label));
    let left = MARGIN + labels.fold(20.0, f64::max) + 8.0;
    let names = chart.panels.iter().filter_map(|panel| panel.reference.as_ref());
    let right = width - names.map(|(_, name)| width_of(&shortened(name, frame.reference)) + 6.0).fold(RIGHT_MARGIN, f64::max);
    let xs = chart.panels.iter().flat_map(x_values);
    let x = Axis::new(chart.x_scale, xs, (right - left) / 64.0);

    let mut drawing = String::new();
    let mut y = 6.0;
    if frame.is_alone {
        drawing += "<rect width=\"100%\" height=\"100%\" fill=\"var(--back)\"/>\n";
        drawing += &text((MARGIN, MARGIN + 8.0), HEADING, &chart.title);
        y = if chart.title.is_empty() { y } else { MARGIN + TITLE };
    }
    for (index, (panel, y_axis)) in chart.panels.iter().zip(&y_axes).enumerate() {
        let top = header(&mut drawing, panel, (left, right), y, frame);
        let plot = Plot { left, right, top, bottom: top + frame.plot_of(panel), x_axis: &x, y_axis };
        plot.grid(&mut drawing);
        plot.reference(&mut drawing, panel, frame);
        if let Some((value, name)) = &chart.mark {
            plot.mark(&mut drawing, *value, if index == 0 { name } else { "" }, panel);
        }
        plot.data(&mut drawing, panel);
        y = plot.bottom + BETWEEN;
    }
    let bottom = y - BETWEEN;
    for (share, label) in x.ticks() {
        drawing += &text((left + share * (right - left), bottom + 12.0), X_TICK, label);
    }
    drawing += &text(((left + right) / 2.0, bottom + 33.0), X_LABEL, &chart.x_label);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" font-family=\"system-ui, 'Noto Sans', 'Helvetica Neue', Arial, sans-serif\" fill=\"none\" \
         stroke-linejoin=\"round\" stroke-linecap=\"round\">\n<title>{title}</title>\n{drawing}</svg>\n",
        height = bottom + FOOT,
        title = escape(&chart.title),
    )
}

/// What the x axis must hold.
fn x_values(panel: &Panel) -> impl Iterator<Item = f64> {
    let points = panel.series.iter().flat_map(|series| &series.points);
    points.flat_map(|point| {
        let (low, high) = point.interval.filter(|_| !panel.names.is_empty()).unzip();
        [Some(point.x), low, high].into_iter().flatten()
    })
}

fn y_axis(panel: &Panel, frame: &Frame) -> Axis {
    if !panel.names.is_empty() {
        return Axis::named(&panel.names);
    }
    let points = panel.series.iter().flat_map(|series| &series.points);
    let values = points.flat_map(|point| [Some(point.y), point.interval.map(|ends| ends.0), point.interval.map(|ends| ends.1)]);
    let reference = panel.reference.as_ref().map(|(value, _)| *value);
    Axis::new(panel.y_scale, values.flatten().chain(reference), frame.plot / 34.0)
}

/// Draws the panel's label and, to its right, the legend, on more lines where one is too short; returns the y below them.
fn header(out: &mut String, panel: &Panel, (left, right): (f64, f64), top: f64, frame: &Frame) -> f64 {
    *out += &text((left, top + HEADER / 2.0), LABEL, &shortened(&panel.y_label, right - left));
    let named = panel.series.iter().enumerate().filter(|(_, series)| is_named(series) && frame.is_alone);
    let names: Vec<(Pen, &Series, String)> = named
        .map(|(index, series)| (Pen::of(series, index), series, shortened(&series.name, right - left - SWATCH - 6.0)))
        .collect();
    let width = |name: &str| SWATCH + 6.0 + width_of(name);
    let gap = 16.0;
    let total: f64 = names.iter().map(|(.., name)| width(name) + gap).sum::<f64>() - gap;
    let mut x = (right - total).max(left + 1.1 * width_of(&panel.y_label) + gap);
    let mut y = top + HEADER / 2.0;
    for (pen, series, name) in names {
        if x + width(&name) > right + 0.1 {
            (x, y) = (left, y + HEADER);
        }
        pen.sign(series, panel, (x, y), out);
        *out += &text((x + SWATCH + 6.0, y), NAME, &name);
        x += width(&name) + gap;
    }
    y + HEADER / 2.0 + 3.0
}

/// The part of a panel between its axes.
struct Plot<'a> {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_axis: &'a Axis,
    y_axis: &'a Axis,
}

impl Plot<'_> {
    fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }

    fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }

    /// Grid, axes and labels of the y axis; a mark where that does not begin at 0.
    fn grid(&self, out: &mut String) {
        let across = |share: f64| format!("M{:.1} {:.1}H{:.1}", self.left, self.y(share), self.right);
        let up = |share: f64| format!("M{:.1} {:.1}V{:.1}", self.x(share), self.bottom, self.top);
        let grid: String = self
            .y_axis
            .ticks()
            .map(|(share, _)| across(share))
            .chain(self.x_axis.ticks().map(|(share, _)| up(share)))
            .collect();
        let axes: String =
            [Some(across(0.0)), self.y_axis.zero().map(across), self.x_axis.zero().map(up)].into_iter().flatten().collect();
        let _ = writeln!(out, "<path d=\"{grid}\" stroke=\"var(--grid)\"/>\n<path d=\"{axes}\" stroke=\"var(--axis)\"/>");
        for (share, label) in self.y_axis.ticks() {
            *out += &text((self.left - 8.0, self.y(share)), Y_TICK, label);
        }
        if self.y_axis.is_cut() {
            let (x, y) = (self.left, self.bottom - 7.0);
            let cut = format!("M{:.1} {:.1}l10 -4m-10 8l10 -4", x - 5.0, y);
            let _ = writeln!(out, "<path d=\"{cut}\" stroke=\"var(--muted)\"/>");
        }
    }

    /// The panel's value to compare with.
    fn reference(&self, out: &mut String, panel: &Panel, frame: &Frame) {
        if let Some((value, name)) = &panel.reference
            && let Some(share) = self.y_axis.share(*value)
        {
            *out += &dashed(&format!("M{:.1} {:.1}H{:.1}", self.left, self.y(share), self.right));
            *out += &text((self.right + 6.0, self.y(share)), MUTED_NAME, &shortened(name, frame.reference));
        }
    }

    /// A place on the x axis, and its name on the side that has more room.
    fn mark(&self, out: &mut String, value: f64, name: &str, panel: &Panel) {
        let Some(share) = self.x_axis.share(value) else { return };
        *out += &dashed(&format!("M{:.1} {:.1}V{:.1}", self.x(share), self.bottom, self.top));
        if name.is_empty() {
            return;
        }
        let (x, kind, from) = match share < 0.5 {
            true => (self.x(share) + 5.0, MUTED_NAME, self.x(share)),
            false => (self.x(share) - 5.0, Y_TICK, self.x(share) - width_of(name) - 5.0),
        };
        *out += &text((x, self.free_y(panel, (from, from + width_of(name) + 5.0))), kind, name);
    }

    /// The uppermost height at which a line of text between two places is clear of the reference and of the series' points, or the one
    /// that is nearest to that.
    fn free_y(&self, panel: &Panel, (from, to): (f64, f64)) -> f64 {
        let is_there = |point: &&Point| self.x_axis.share(point.x).is_some_and(|share| (from..=to).contains(&self.x(share)));
        let drawn = panel.series.iter().flat_map(|series| &series.points).filter(is_there).map(|point| point.y);
        let drawn = drawn.chain(panel.reference.as_ref().map(|(value, _)| *value));
        let drawn: Vec<f64> = drawn.filter_map(|value| Some(self.y(self.y_axis.share(value)?))).collect();
        let clear = |y: f64| drawn.iter().map(|at| (at - y).abs()).fold(12.0, f64::min);
        let lines = ((self.bottom - self.top) / 14.0) as usize;
        let heights = (0..lines.max(1)).map(|line| self.top + 8.0 + 14.0 * line as f64);
        heights.reduce(|best, y| if clear(y) > clear(best) { y } else { best }).unwrap_or(self.top + 8.0)
    }

    /// Intervals under lines under markers, so that no series hides another's values.
    fn data(&self, out: &mut String, panel: &Panel) {
        let at = |point: &Point, value: f64| Some((self.x(self.x_axis.share(point.x)?), self.y(self.y_axis.share(value)?)));
        let interval = |point: &Point| {
            let (low, high) = point.interval?;
            match panel.names.is_empty() {
                true => Some((at(point, low)?, at(point, high)?)),
                false => Some((at(&Point { x: low, ..*point }, point.y)?, at(&Point { x: high, ..*point }, point.y)?)),
            }
        };
        let pens = || panel.series.iter().enumerate().map(|(index, series)| (Pen::of(series, index), &series.points));
        for (pen, points) in pens() {
            stretches(points, interval).iter().for_each(|stretch| *out += &pen.band(stretch));
        }
        for (pen, points) in pens() {
            stretches(points, |point| at(point, point.y)).iter().for_each(|stretch| *out += &pen.line(stretch));
        }
        for (pen, points) in pens() {
            *out += &pen.markers(&stretches(points, |point| at(point, point.y)).concat());
        }
    }
}

/// The longest sequences of neighbouring points that all have a place.
fn stretches<T: Clone>(points: &[Point], place: impl Fn(&Point) -> Option<T>) -> Vec<Vec<T>> {
    let places: Vec<Option<T>> = points.iter().map(place).collect();
    let stretches = places.split(Option::is_none).map(|stretch| stretch.iter().flatten().cloned().collect::<Vec<T>>());
    stretches.filter(|stretch| !stretch.is_empty()).collect()
}

/// A place in the drawing, x and y.
type Coordinates = (f64, f64);

/// Draws what is there of one series.
struct Pen {
    hue: usize,
    style: Style,
}

impl Pen {
    fn of(series: &Series, index: usize) -> Self {
        Self { hue: series.hue.unwrap_or(index) % HUES, style: series.style }
    }

    /// How a series is recognised, in a legend whose line begins at `x` and has its middle at `y`.
    fn sign(&self, series: &Series, panel: &Panel, (x, y): Coordinates, out: &mut String) {
        if series.points.iter().any(|point| point.interval.is_some()) {
            *out += &match panel.names.is_empty() {
                true => self.band(&[x, x + SWATCH].map(|x| ((x, y - 5.0), (x, y + 5.0)))),
                false => self.band(&[((x, y), (x + SWATCH, y))]),
            };
        }
        *out += &self.line(&[(x, y), (x + SWATCH, y)]);
        *out += &self.markers(&[(x + SWATCH / 2.0, y)]);
    }

    /// A shaded area between the low and the high ends; a bar if there is but one, or markers have no line.
    fn band(&self, ends: &[(Coordinates, Coordinates)]) -> String {
        let hue = self.hue;
        if self.style == Style::Markers || ends.len() == 1 {
            let bar = |&((x, y), (to_x, to_y)): &(Coordinates, Coordinates)| match x == to_x {
                true => format!("M{x:.1} {y:.1}V{to_y:.1}"),
                false => format!("M{x:.1} {y:.1}H{to_x:.1}"),
            };
            let bars: String = ends.iter().map(bar).collect();
            return format!("<path d=\"{bars}\" stroke=\"var(--hue{hue})\" stroke-width=\"1.5\"/>\n");
        }
        let there = ends.iter().map(|(low, _)| *low);
        let back = ends.iter().rev().map(|(_, high)| *high);
        format!("<polygon points=\"{}\" fill=\"var(--hue{hue})\" fill-opacity=\"0.18\"/>\n", listed(there.chain(back)))
    }

    fn line(&self, points: &[(f64, f64)]) -> String {
        let (opacity, width) = match self.style {
            Style::Markers => return String::new(),
            Style::Faint => (0.4, 1),
            Style::Line | Style::Dotted => (1.0, 2),
        };
        let (hue, points) = (self.hue, listed(points.iter().copied()));
        let stroke = format!("stroke=\"var(--hue{hue})\" stroke-opacity=\"{opacity}\" stroke-width=\"{width}\"");
        format!("<polyline points=\"{points}\" {stroke}/>\n")
    }

    /// Markers with a rim of background, which sets them off from lines.
    fn markers(&self, places: &[(f64, f64)]) -> String {
        if places.is_empty() || !matches!(self.style, Style::Dotted | Style::Markers) {
            return String::new();
        }
        let shapes: String = places.iter().map(|(x, y)| format!("M{x:.1} {y:.1}{}", MARKERS[self.hue])).collect();
        let rim = "stroke=\"var(--back)\" stroke-width=\"2.4\" paint-order=\"stroke\"";
        format!("<path d=\"{shapes}\" fill=\"var(--hue{})\" {rim}/>\n", self.hue)
    }
}

fn dashed(path: &str) -> String {
    format!("<path d=\"{path}\" stroke=\"var(--muted)\" stroke-dasharray=\"4 4\"/>\n")
}

fn listed(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

fn text((x, y): (f64, f64), kind: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" dy=\"0.35em\" {kind}>{}</text>\n", escape(content))
}

/// The text, cut where it would be wider than `width`.
fn shortened(text: &str, width: f64) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let mut cut = text.to_owned();
    while width_of(&cut) + width_of("…") > width && cut.pop().is_some() {}
    cut + "…"
}

/// How wide a text of 12 pixels is at most in the usual sans-serif fonts, which SVG leaves to the reader.
fn width_of(text: &str) -> f64 {
    let ems = text.chars().map(|c| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' => 0.35,
        't' | 'f' | 'r' => 0.42,
        'm' | 'w' | 'M' | 'W' | '—' | '+' | '−' | '=' | '<' | '>' | '±' => 0.95,
        c if c.is_ascii_uppercase() => 0.75,
        c if c.is_ascii() => 0.62,
        c if c.is_alphabetic() && (c as u32) < 0x1100 => 0.65,
        _ => 1.0,
    });
    12.0 * ems.sum::<f64>()
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
