//! A chart as a file: SVG text, PNG bytes, and where they may be written.

use std::path::Path;

use super::{Chart, Theme, draw, png};
use crate::machine::files::{check_writable, write_atomic};
use crate::{Error, Result};

impl Chart {
    /// The chart as SVG, on a background of its own.
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
