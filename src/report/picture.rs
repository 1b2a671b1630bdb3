//! A chart as a file: SVG text, PNG bytes, and where they may be written.

use std::path::Path;

#[cfg(feature = "pictures")]
use super::png;
use super::{Chart, Theme, draw};
use crate::machine::files::{check_writable, write_atomic};
use crate::{Error, Result};

impl Chart {
    /// The chart as SVG, on a background of its own.
    pub fn to_svg(&self, theme: Theme) -> String {
        draw::svg(self, theme)
    }

    /// The chart as PNG, by the feature `pictures`: two pixels to a CSS pixel. Text needs no font on the machine.
    ///
    /// # Errors
    /// The picture cannot be rendered or encoded.
    #[cfg(feature = "pictures")]
    pub fn to_png(&self, theme: Theme) -> Result<Vec<u8>> {
        png::png(&self.to_svg(theme))
    }

    /// Writes the light picture to a file whose name ends in `.svg` or `.png`.
    ///
    /// # Errors
    /// The name ends otherwise, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = match PictureFormat::of(path)? {
            PictureFormat::Svg => self.to_svg(Theme::Light).into_bytes(),
            #[cfg(feature = "pictures")]
            PictureFormat::Png => self.to_png(Theme::Light)?,
        };
        write_atomic(path, &bytes)
    }

    /// Refuses a path that no chart can be written to, before anything costly is computed.
    ///
    /// # Errors
    /// The name ends neither in `.svg` nor in `.png`, or in one that this build leaves out, or its folder does not exist.
    pub fn check_path(path: &Path) -> Result<()> {
        PictureFormat::of(path)?;
        check_writable(path)
    }
}

/// What a chart is written as.
enum PictureFormat {
    Svg,
    #[cfg(feature = "pictures")]
    Png,
}

impl PictureFormat {
    fn of(path: &Path) -> Result<Self> {
        let refused = |problem: &str| Err(Error::Argument(format!("{}: {problem}", path.display())));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            #[cfg(feature = "pictures")]
            Some("png") => Ok(Self::Png),
            #[cfg(not(feature = "pictures"))]
            Some("png") => refused("this bipo is built without PNG: build it with the feature pictures, or name a .svg file"),
            _ => refused("a chart's file ends in .svg or .png"),
        }
    }
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
