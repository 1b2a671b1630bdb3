//! A chart's SVG as PNG. Text becomes the outlines of an embedded Noto Sans (Apache-2.0), so that a machine without fonts draws it
//! too.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::roxmltree::{Document, Node};
use resvg::usvg::{Options, Tree};
use ttf_parser::{Face, OutlineBuilder};

use crate::{Error, Result};

/// Pixels to a CSS pixel.
const SCALE: f32 = 2.0;

pub(super) fn png(svg: &str) -> Result<Vec<u8>> {
    let tree = Tree::from_str(&outlined(svg)?, &Options::default()).map_err(draw_error)?;
    let size = tree.size();
    let (width, height) = ((size.width() * SCALE) as u32, (size.height() * SCALE) as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| Error::Draw(format!("{width} by {height} pixels")))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(draw_error)
}

fn draw_error(error: impl ToString) -> Error {
    Error::Draw(error.to_string())
}

/// The SVG with a path in the place of each text.
fn outlined(svg: &str) -> Result<String> {
    let document = Document::parse(svg).map_err(draw_error)?;
    let face = Face::parse(ttf_noto_sans::REGULAR, 0).map_err(draw_error)?;
    let (mut drawing, mut copied) = (String::new(), 0);
    for text in document.descendants().filter(|node| node.tag_name().name() == "text") {
        drawing += &svg[copied..text.range().start];
        drawing += &outline(text, &face)?;
        copied = text.range().end;
    }
    Ok(drawing + &svg[copied..])
}

/// A text as a path: its glyphs side by side, without kerning, on a line 0.35 em below its `y`, as `draw` asks by `dy`.
fn outline(text: Node, face: &Face) -> Result<String> {
    let number = |name: &str| -> Result<f32> {
        let value = text.attribute(name).and_then(|value| value.parse().ok());
        value.ok_or_else(|| Error::Draw(format!("a text without {name}")))
    };
    let scale = number("font-size")? / f32::from(face.units_per_em());
    let glyphs: Vec<_> = text.text().unwrap_or_default().chars().map(|c| face.glyph_index(c).unwrap_or_default()).collect();
    let advance = |glyph| scale * f32::from(face.glyph_hor_advance(glyph).unwrap_or(0));
    let width: f32 = glyphs.iter().copied().map(advance).sum();
    let left = match text.attribute("text-anchor") {
        Some("middle") => width / 2.0,
        Some("end") => width,
        _ => 0.0,
    };
    let mut pen =
        OutlinePen { x: number("x")? - left, y: number("y")? + 0.35 * number("font-size")?, scale, path: String::new() };
    for glyph in glyphs {
        face.outline_glyph(glyph, &mut pen);
        pen.x += advance(glyph);
    }
    Ok(format!("<path fill=\"{}\" d=\"{}\"/>", text.attribute("fill").unwrap_or("black"), pen.path))
}

/// Writes the outlines of glyphs as commands of a path.
struct OutlinePen {
    /// Where the glyph begins on its line. Font units point up, SVG's down.
    x: f32,
    y: f32,
    /// CSS pixels to a font unit.
    scale: f32,
    path: String,
}

impl OutlinePen {
    fn write<const N: usize>(&mut self, command: char, points: [(f32, f32); N]) {
        self.path.push(command);
        for (x, y) in points {
            self.path += &format!("{:.2} {:.2} ", self.x + self.scale * x, self.y - self.scale * y);
        }
    }
}

impl OutlineBuilder for OutlinePen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.write('M', [(x, y)]);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.write('L', [(x, y)]);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.write('Q', [(x1, y1), (x, y)]);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.write('C', [(x1, y1), (x2, y2), (x, y)]);
    }

    fn close(&mut self) {
        self.path.push('Z');
    }
}

#[cfg(test)]
#[path = "png_tests.rs"]
mod tests;
