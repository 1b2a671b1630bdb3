//! The colours of charts and pages. A chart is drawn with the CSS variables that a page declares; in a file of its own a theme's
//! colours replace them. The hues are Okabe and Ito's, which colour-blind readers can tell apart, some lightened for dark or
//! darkened for white.

/// The background that a chart is read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// A white background of its own.
    Light,
    /// A black background of its own.
    Dark,
}

/// Each CSS variable with its colour on white and its colour on black.
const COLOURS: [(&str, &str, &str); 11] = [
    ("back", "#ffffff", "#16181c"),
    ("text", "#1a1c20", "#e8eaed"),
    ("muted", "#5c6470", "#a0a8b4"),
    ("grid", "#e6e8ec", "#2c3038"),
    ("axis", "#9aa1ac", "#6a7280"),
    ("hue0", "#0072b2", "#56a8e8"),
    ("hue1", "#d55e00", "#f58a3c"),
    ("hue2", "#008a66", "#35c199"),
    ("hue3", "#b35a96", "#e29ac6"),
    ("hue4", "#a87400", "#e8b53a"),
    ("hue5", "#4b4f58", "#c3c8d0"),
];

/// How many series have a colour of their own.
pub(super) const HUES: usize = 6;

/// Puts a theme's colours into a drawing. Whole attributes are replaced: in a drawing's texts quotes are escaped.
pub(super) fn paint(svg: String, theme: Theme) -> String {
    COLOURS.iter().fold(svg, |svg, (name, light, dark)| match theme {
        Theme::Light => svg.replace(&format!("\"var(--{name})\""), &format!("\"{light}\"")),
        Theme::Dark => svg.replace(&format!("\"var(--{name})\""), &format!("\"{dark}\"")),
    })
}

/// What a page declares for the charts in it: its variables on white and on black.
pub(super) fn variables() -> (String, String) {
    let declare = |(name, colour): (&str, &str)| format!("--{name}:{colour};");
    let light = COLOURS.iter().map(|(name, light, _)| declare((name, light))).collect();
    let dark = COLOURS.iter().map(|(name, _, dark)| declare((name, dark))).collect();
    (light, dark)
}

#[cfg(test)]
#[path = "theme_tests.rs"]
mod tests;
