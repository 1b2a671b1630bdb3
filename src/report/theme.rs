//! The colours. A chart is drawn once with stand-ins; a theme puts its colours, or a page's CSS variables, in their place. The
//! hues are Okabe and Ito's, which colour-blind readers can tell apart, some lightened for dark or darkened for white.

use plotters::style::RGBColor;

/// Where a chart is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// On white, which it brings with it.
    Light,
    /// On black, which it brings with it.
    Dark,
    /// In a page, in its colours and on its background.
    Page,
}

/// What a colour is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Back,
    Text,
    Muted,
    Grid,
    Axis,
    /// Of a series; begins again past the last.
    Hue(usize),
}

/// Name, on white, on black.
const INKS: [(&str, &str, &str); 11] = [
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

const FIRST_HUE: usize = 5;

impl Ink {
    fn index(self) -> usize {
        match self {
            Self::Back => 0,
            Self::Text => 1,
            Self::Muted => 2,
            Self::Grid => 3,
            Self::Axis => 4,
            Self::Hue(hue) => FIRST_HUE + hue % (INKS.len() - FIRST_HUE),
        }
    }

    /// The colour that stands for this one until [`paint`].
    pub(super) fn stand_in(self) -> RGBColor {
        RGBColor(1, 2, self.index() as u8)
    }
}

/// Puts a theme's colours into a drawing. Only whole attributes are replaced: quotes in its texts are escaped.
pub(super) fn paint(svg: &str, theme: Theme) -> String {
    INKS.iter().enumerate().fold(svg.to_owned(), |svg, (index, (name, light, dark))| {
        let colour = match theme {
            Theme::Light => (*light).to_owned(),
            Theme::Dark => (*dark).to_owned(),
            Theme::Page => format!("var(--{name})"),
        };
        svg.replace(&format!("\"#0102{index:02X}\""), &format!("\"{colour}\""))
    })
}

/// The declarations that [`Theme::Page`] needs: for white, for black.
pub(super) fn variables() -> (String, String) {
    let declare = |(name, colour): (&str, &str)| format!("--{name}:{colour};");
    let light = INKS.iter().map(|(name, light, _)| declare((name, light))).collect();
    let dark = INKS.iter().map(|(name, _, dark)| declare((name, dark))).collect();
    (light, dark)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance and contrast as WCAG 2 defines them.
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |hex: &str| {
            let channel = |at: usize| {
                let c = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
                if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_and_lines_stand_out_on_both_backgrounds() {
        let (_, white, black) = INKS[0];
        for (name, light, dark) in &INKS[1..] {
            let least = match *name {
                "grid" => 1.1,
                "axis" => 2.0,
                "text" | "muted" => 4.5,
                _ => 3.0,
            };
            assert!(contrast(light, white) >= least, "{name} on white: {}", contrast(light, white));
            assert!(contrast(dark, black) >= least, "{name} on black: {}", contrast(dark, black));
        }
    }

    #[test]
    fn each_ink_has_its_stand_in_and_hues_begin_again() {
        let drawing = "<a fill=\"#010205\"/>&quot;#010205&quot;";
        assert_eq!(paint(drawing, Theme::Page), "<a fill=\"var(--hue0)\"/>&quot;#010205&quot;");
        assert_eq!(Ink::Hue(0).stand_in(), Ink::Hue(6).stand_in());
    }
}
