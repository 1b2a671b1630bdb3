//! Draws a chart with plotters: each panel's header with the legend, its grid and ticks, then intervals, lines and markers.
//! Plotters places everything at whole coordinates, so ten of them make a CSS pixel.

use std::io;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Circle, PathElement, Polygon, Text};
use plotters::prelude::{Cartesian2d, DrawingArea, IntoDrawingArea, IntoFont, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, ShapeStyle, TextStyle};

use super::chart::{Chart, Panel, Scale, Series, Style};
use super::html::escape;
use super::theme::{Ink, Theme, paint};
use super::ticks::{Axis, Steps, extent, place};
use crate::{Error, Result};

type Drawn<T = ()> = std::result::Result<T, plotters::drawing::DrawingAreaErrorKind<io::Error>>;

/// Plotters' coordinates to a CSS pixel.
const UNIT: f64 = 10.0;

/// The rest is in CSS pixels.
const WIDTH: f64 = 680.0;
const MARGIN: f64 = 14.0;
const TITLE: f64 = 34.0;
const HEADER: f64 = 22.0;
const TICK_LABELS: f64 = 20.0;
const X_LABEL: f64 = 22.0;
const BETWEEN: f64 = 14.0;
const SMALL: f64 = 12.0;
const MEDIUM: f64 = 13.0;
const LARGE: f64 = 16.0;
const SWATCH: f64 = 18.0;

const FONTS: &str = "system-ui, 'Noto Sans', 'Helvetica Neue', Arial, sans-serif";

/// The chart as SVG.
pub(super) fn svg(chart: &Chart, theme: Theme) -> Result<String> {
    let layout = Layout::of(chart, theme);
    let mut drawing = String::new();
    draw(chart, &layout, &mut drawing).map_err(|error| Error::Draw(error.to_string()))?;
    // Plotters' own first line says the size in its coordinates, and no more.
    let body = drawing.split_once('\n').map_or("", |(_, body)| body);
    let (width, height) = (WIDTH, layout.height);
    let (units_x, units_y) = (unit(width), unit(height));
    let back = match theme {
        Theme::Page => String::new(),
        Theme::Light | Theme::Dark => "<rect width=\"100%\" height=\"100%\" fill=\"#010200\"/>\n".to_owned(),
    };
    let body = body.replace("font-family=\"sans-serif\" ", "").replace("\n</text>", "</text>");
    let title = escape(&chart.title);
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {units_x} {units_y}\" \
         role=\"img\" font-family=\"{FONTS}\" stroke-linejoin=\"round\" stroke-linecap=\"round\">\n<title>{title}</title>\n{back}{body}"
    );
    Ok(paint(&svg, theme))
}

fn draw(chart: &Chart, layout: &Layout, out: &mut String) -> Drawn {
    let size = (unit(WIDTH) as u32, unit(layout.height) as u32);
    let sheet = Sheet { root: SVGBackend::with_string(out, size).into_drawing_area() };
    if layout.titled {
        sheet.text((MARGIN, MARGIN + 8.0), LARGE, Ink::Text, (HPos::Left, VPos::Center), &chart.title)?;
    }
    for (index, (panel, frame)) in chart.panels.iter().zip(&layout.frames).enumerate() {
        sheet.header(panel, frame)?;
        sheet.grid(panel, frame, &layout.x)?;
        if index + 1 == chart.panels.len() {
            sheet.x_labels(frame, &layout.x, &chart.x_label)?;
        }
        sheet.data(panel, frame, &layout.x)?;
    }
    sheet.root.present()
}

/// Where everything goes.
struct Layout {
    height: f64,
    titled: bool,
    x: Axis,
    frames: Vec<Frame>,
}

/// A panel's plot, the legend above it, and its y axis.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// Each series with a name: where its swatch begins, and how far above the plot.
    legend: Vec<(usize, f64, f64)>,
    header: f64,
    y: Axis,
}

impl Layout {
    fn of(chart: &Chart, theme: Theme) -> Self {
        let titled = theme != Theme::Page && !chart.title.is_empty();
        let plot_height = match chart.panels.len() {
            0 | 1 => 280.0,
            2 => 190.0,
            _ => 140.0,
        };
        let axes: Vec<Axis> = chart.panels.iter().map(|panel| y_axis(panel, plot_height)).collect();
        let labels = axes.iter().flat_map(|axis| &axis.ticks).map(|(_, label)| width_of(label, SMALL));
        let left = MARGIN + labels.fold(20.0, f64::max) + 8.0;
        let names = chart.panels.iter().filter_map(|panel| panel.reference.as_ref());
        let right = WIDTH - names.map(|(_, name)| width_of(name, SMALL) + 6.0).fold(MARGIN, f64::max);
        let mut top = if titled { MARGIN + TITLE } else { 6.0 };
        let mut frames = Vec::new();
        for (panel, y) in chart.panels.iter().zip(axes) {
            let (legend, lines) = legend(panel, left, right);
            let header = HEADER * lines as f64;
            let bottom = top + header + plot_height;
            frames.push(Frame { left, right, top: top + header, bottom, legend, header, y });
            top = bottom + BETWEEN;
        }
        let height = (top - BETWEEN + TICK_LABELS + X_LABEL + 8.0).ceil();
        Self { height, titled, x: x_axis(chart, right - left), frames }
    }
}

/// Lays swatches and names out beside the panel's label, at the right; below it where there is no room.
fn legend(panel: &Panel, left: f64, right: f64) -> (Vec<(usize, f64, f64)>, usize) {
    let named = panel.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty());
    let items: Vec<(usize, f64)> =
        named.map(|(index, series)| (index, SWATCH + 6.0 + width_of(&series.name, SMALL) + 14.0)).collect();
    let total: f64 = items.iter().map(|(_, width)| width).sum();
    let beside = left + width_of(&panel.y_label, MEDIUM) + 24.0 + total <= right + 14.0;
    let mut x = if beside { right + 14.0 - total } else { left };
    let mut line = usize::from(!beside && !items.is_empty());
    let mut placed = Vec::new();
    for (index, width) in items {
        if x + width > right + 14.0 && x > left {
            (x, line) = (left, line + 1);
        }
        placed.push((index, x, line as f64));
        x += width;
    }
    let legend = placed.into_iter().map(|(index, x, at)| (index, x, HEADER * (line as f64 - at))).collect();
    (legend, line + 1)
}

fn x_axis(chart: &Chart, width: f64) -> Axis {
    let all = chart.panels.iter().flat_map(|panel| &panel.series);
    let xs = all.flat_map(|series| &series.points).filter_map(|(x, _)| place(Scale::Linear, *x));
    let (low, high) = widen(extent(xs).unwrap_or((0.0, 1.0)), if chart.x_whole { 0.5 } else { 1.0 });
    let has_markers = chart.panels.iter().flat_map(|panel| &panel.series).any(|series| series.style.has_markers());
    let pad = if has_markers { 0.02 * (high - low) } else { 0.0 };
    let steps = if chart.x_whole { Steps::Whole } else { Steps::Any };
    Axis::linear(low - pad, high + pad, (width / 64.0) as usize, steps)
}

/// Room above and below the values, from 0 where they begin near it.
fn y_axis(panel: &Panel, height: f64) -> Axis {
    let intervals = panel.series.iter().flat_map(|series| series.band.iter().flatten()).flat_map(|(low, high)| [*low, *high]);
    let values = panel.series.iter().flat_map(|series| &series.points).map(|(_, y)| *y);
    let all = values.chain(intervals).chain(panel.reference.iter().map(|(value, _)| *value));
    let (low, high) = extent(all.filter_map(|value| place(panel.scale, value))).unwrap_or((0.0, 1.0));
    let head = if panel.mark.is_some() { 0.16 } else { 0.06 };
    let count = (height / 34.0) as usize;
    if panel.scale == Scale::Log {
        let (low, high) = widen((low, high), 0.1);
        return Axis::log(low - 0.06 * (high - low), high + head * (high - low), count);
    }
    let from_zero = low >= 0.0 && high > 0.0 && low <= 0.35 * high;
    let (low, high) = if from_zero { (0.0, high) } else { widen((low, high), (0.1 * high.abs()).max(1e-9)) };
    let foot = if from_zero { 0.0 } else { 0.06 };
    Axis::linear(low - foot * (high - low), high + head * (high - low), count, Steps::Any)
}

/// A range that is no range gets this much on both sides.
fn widen((low, high): (f64, f64), by: f64) -> (f64, f64) {
    if high - low > 1e-12 * high.abs().max(low.abs()) && high > low { (low, high) } else { (low - by, high + by) }
}

/// How wide a text is at most in the usual sans-serif fonts, which SVG leaves to the reader.
fn width_of(text: &str, size: f64) -> f64 {
    let ems = text.chars().map(|c| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' => 0.35,
        't' | 'f' | 'r' => 0.42,
        'm' | 'w' | 'M' | 'W' | '—' | '+' | '−' | '=' | '<' | '>' | '±' => 0.95,
        c if c.is_ascii_uppercase() => 0.75,
        c if c.is_ascii() => 0.62,
        c if c.is_alphabetic() && (c as u32) < 0x1100 => 0.65,
        _ => 1.0,
    });
    ems.sum::<f64>() * size
}

fn unit(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

impl Style {
    fn has_markers(self) -> bool {
        matches!(self, Self::Dotted | Self::Markers | Self::Bars)
    }
}

impl Series {
    fn ink(&self, index: usize) -> Ink {
        Ink::Hue(self.hue.unwrap_or(index))
    }
}

fn stroke(ink: Ink, opacity: f64, width: f64) -> ShapeStyle {
    ShapeStyle { color: ink.stand_in().mix(opacity), filled: false, stroke_width: unit(width) as u32 }
}

fn fill(ink: Ink, opacity: f64) -> ShapeStyle {
    ShapeStyle { color: ink.stand_in().mix(opacity), filled: true, stroke_width: 0 }
}

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

struct Sheet<'a> {
    root: Root<'a>,
}

impl<'a> Sheet<'a> {
    fn text(&self, (x, y): (f64, f64), size: f64, ink: Ink, (h, v): (HPos, VPos), text: &str) -> Drawn {
        // Plotters divides sizes by this.
        let font = ("sans-serif", size * UNIT * 1.24).into_font();
        let color = ink.stand_in();
        let style = TextStyle::from(font).color(&color).pos(Pos::new(h, v));
        self.root.draw(&Text::new(text.to_owned(), (unit(x), unit(y)), style))
    }

    fn line(&self, from: (f64, f64), to: (f64, f64), style: ShapeStyle) -> Drawn {
        self.root.draw(&PathElement::new(vec![(unit(from.0), unit(from.1)), (unit(to.0), unit(to.1))], style))
    }

    /// The panel's label and its legend.
    fn header(&self, panel: &Panel, frame: &Frame) -> Drawn {
        let y = frame.top - frame.header + HEADER / 2.0 - 3.0;
        self.text((frame.left, y), MEDIUM, Ink::Text, (HPos::Left, VPos::Center), &panel.y_label)?;
        for (index, x, above) in &frame.legend {
            let series = &panel.series[*index];
            let (ink, y) = (series.ink(*index), frame.top - HEADER / 2.0 - 3.0 - above);
            self.swatch(series, ink, (*x, y))?;
            self.text((x + SWATCH + 6.0, y), SMALL, Ink::Text, (HPos::Left, VPos::Center), &series.name)?;
        }
        Ok(())
    }

    fn swatch(&self, series: &Series, ink: Ink, (x, y): (f64, f64)) -> Drawn {
        if series.band.is_some() && series.style != Style::Bars {
            let (left, right, top, bottom) = (unit(x), unit(x + SWATCH), unit(y - 5.0), unit(y + 5.0));
            let corners = vec![(left, top), (right, top), (right, bottom), (left, bottom)];
            self.root.draw(&Polygon::new(corners, fill(ink, 0.18)))?;
        }
        match series.style {
            Style::Line | Style::Dotted => self.line((x, y), (x + SWATCH, y), stroke(ink, 1.0, 2.0))?,
            Style::Faint => self.line((x, y), (x + SWATCH, y), stroke(ink, 0.4, 1.0))?,
            Style::Bars => self.line((x + SWATCH / 2.0, y - 7.0), (x + SWATCH / 2.0, y + 7.0), stroke(ink, 1.0, 1.5))?,
            Style::Markers => {}
        }
        if series.style.has_markers() {
            self.marker((unit(x + SWATCH / 2.0), unit(y)), ink)?;
        }
        Ok(())
    }

    fn grid(&self, panel: &Panel, frame: &Frame, x: &Axis) -> Drawn {
        let plot = self.plot(frame, x);
        let across = |at: f64| (plot.map_coordinate(&(x.range.start, at)), plot.map_coordinate(&(x.range.end, at)));
        let up = |at: f64| (plot.map_coordinate(&(at, frame.y.range.start)), plot.map_coordinate(&(at, frame.y.range.end)));
        let draw = |(from, to), style| self.root.draw(&PathElement::new(vec![from, to], style));
        for (at, label) in &frame.y.ticks {
            draw(across(*at), stroke(Ink::Grid, 1.0, 1.0))?;
            let y = f64::from(across(*at).0.1) / UNIT;
            self.text((frame.left - 8.0, y), SMALL, Ink::Muted, (HPos::Right, VPos::Center), label)?;
        }
        for (at, _) in &x.ticks {
            draw(up(*at), stroke(Ink::Grid, 1.0, 1.0))?;
        }
        draw(across(frame.y.range.start), stroke(Ink::Axis, 1.0, 1.0))?;
        if frame.y.scale == Scale::Linear && frame.y.range.start < 0.0 && frame.y.range.end > 0.0 {
            draw(across(0.0), stroke(Ink::Axis, 1.0, 1.2))?;
        }
        if x.range.start < 0.0 && x.range.end > 0.0 {
            draw(up(0.0), stroke(Ink::Axis, 1.0, 1.2))?;
        }
        if let Some((value, name)) = &panel.reference
            && let Some(at) = frame.y.place(*value)
        {
            let ((left, y), (right, _)) = across(at);
            for dash in (left..right).step_by(unit(8.0) as usize) {
                draw(((dash, y), ((dash + unit(4.0)).min(right), y)), stroke(Ink::Muted, 1.0, 1.0))?;
            }
            let place = (frame.right + 6.0, f64::from(y) / UNIT);
            self.text(place, SMALL, Ink::Muted, (HPos::Left, VPos::Center), name)?;
        }
        if let Some((at, name)) = panel.mark.as_ref().filter(|(at, _)| x.range.contains(at)) {
            let (bottom, top) = up(*at);
            draw((bottom, top), stroke(Ink::Axis, 1.0, 1.2))?;
            let (x, side) = (f64::from(top.0) / UNIT, 6.0);
            let fits = x + side + width_of(name, SMALL) <= frame.right;
            let (x, anchor) = if fits { (x + side, HPos::Left) } else { (x - side, HPos::Right) };
            self.text((x, frame.top + 8.0), SMALL, Ink::Text, (anchor, VPos::Center), name)?;
        }
        Ok(())
    }

    fn x_labels(&self, frame: &Frame, x: &Axis, label: &str) -> Drawn {
        let plot = self.plot(frame, x);
        for (at, label) in &x.ticks {
            let (at, _) = plot.map_coordinate(&(*at, frame.y.range.start));
            let place = (f64::from(at) / UNIT, frame.bottom + TICK_LABELS / 2.0 + 2.0);
            self.text(place, SMALL, Ink::Muted, (HPos::Center, VPos::Center), label)?;
        }
        let place = ((frame.left + frame.right) / 2.0, frame.bottom + TICK_LABELS + X_LABEL / 2.0 + 2.0);
        self.text(place, MEDIUM, Ink::Text, (HPos::Center, VPos::Center), label)
    }

    fn plot(&self, frame: &Frame, x: &Axis) -> Plot<'a> {
        let pixels = (unit(frame.left)..unit(frame.right), unit(frame.bottom)..unit(frame.top));
        self.root.clone().apply_coord_spec(Cartesian2d::new(x.range.clone(), frame.y.range.clone(), pixels))
    }

    /// Intervals under lines under markers, so that no series hides another's values.
    fn data(&self, panel: &Panel, frame: &Frame, x: &Axis) -> Drawn {
        let plot = self.plot(frame, x);
        let inks = || panel.series.iter().enumerate().map(|(index, series)| (series, series.ink(index)));
        for (series, ink) in inks() {
            self.intervals(&plot, series, &frame.y, ink)?;
        }
        for (series, ink) in inks() {
            let (opacity, width) = match series.style {
                Style::Line | Style::Dotted => (1.0, 2.0),
                Style::Faint => (0.4, 1.0),
                Style::Markers | Style::Bars => continue,
            };
            for run in runs(&series.points, |(x, y)| Some((place(Scale::Linear, *x)?, frame.y.place(*y)?))) {
                plot.draw(&PathElement::new(run, stroke(ink, opacity, width)))?;
            }
        }
        for (series, ink) in inks().filter(|(series, _)| series.style.has_markers()) {
            for at in runs(&series.points, |(x, y)| Some((place(Scale::Linear, *x)?, frame.y.place(*y)?))).concat() {
                self.marker(plot.map_coordinate(&at), ink)?;
            }
        }
        Ok(())
    }

    fn intervals(&self, plot: &Plot, series: &Series, y: &Axis, ink: Ink) -> Drawn {
        let Some(band) = &series.band else { return Ok(()) };
        let ends: Vec<_> = series.points.iter().zip(band).map(|((x, _), (low, high))| (*x, *low, *high)).collect();
        let placed = |(x, low, high): &(f64, f64, f64)| Some((place(Scale::Linear, *x)?, y.place(*low)?, y.place(*high)?));
        for run in runs(&ends, placed) {
            if series.style == Style::Bars || run.len() == 1 {
                for (x, low, high) in run {
                    plot.draw(&PathElement::new(vec![(x, low), (x, high)], stroke(ink, 1.0, 1.5)))?;
                }
                continue;
            }
            let there = run.iter().map(|(x, low, _)| (*x, *low));
            let back = run.iter().rev().map(|(x, _, high)| (*x, *high));
            plot.draw(&Polygon::new(there.chain(back).collect::<Vec<_>>(), fill(ink, 0.18)))?;
        }
        Ok(())
    }

    /// A shape for each hue, with a rim of background that sets it off from lines: printed in grey, series stay apart.
    fn marker(&self, (x, y): (i32, i32), ink: Ink) -> Drawn {
        let shape = |radius: f64| -> Option<Vec<(i32, i32)>> {
            let corners: &[(f64, f64)] = match ink {
                Ink::Hue(1) => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
                Ink::Hue(2) => &[(0.0, -1.25), (1.15, 0.8), (-1.15, 0.8)],
                Ink::Hue(3) => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
                Ink::Hue(4) => &[(0.0, 1.25), (1.15, -0.8), (-1.15, -0.8)],
                _ => return None,
            };
            Some(corners.iter().map(|(dx, dy)| (x + unit(dx * radius), y + unit(dy * radius))).collect())
        };
        for (ink, radius) in [(Ink::Back, 5.0), (ink, 3.8)] {
            match shape(radius) {
                Some(corners) => self.root.draw(&Polygon::new(corners, fill(ink, 1.0)))?,
                None => self.root.draw(&Circle::new((x, y), unit(radius), fill(ink, 1.0)))?,
            }
        }
        Ok(())
    }
}

/// The stretches of points that have a place.
fn runs<P, Q: Clone>(points: &[P], placed: impl Fn(&P) -> Option<Q>) -> Vec<Vec<Q>> {
    let placed: Vec<Option<Q>> = points.iter().map(placed).collect();
    let stretches = placed.split(Option::is_none).map(|run| run.iter().flatten().cloned().collect::<Vec<_>>());
    stretches.filter(|run| !run.is_empty()).collect()
}
