//! Tests of the colours: contrast, and where a theme puts them.

use super::*;

/// Contrast of two colours by their relative luminance, as WCAG 2 defines both.
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
    let (_, white, black) = COLOURS[0];
    for (name, light, dark) in &COLOURS[1..] {
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
fn a_theme_replaces_attributes_alone() {
    let drawing = "<a fill=\"var(--hue0)\"/>&quot;var(--hue0)&quot;".to_owned();
    assert_eq!(paint(drawing.clone(), Theme::Light), "<a fill=\"#0072b2\"/>&quot;var(--hue0)&quot;");
    assert_eq!(paint(drawing, Theme::Dark), "<a fill=\"#56a8e8\"/>&quot;var(--hue0)&quot;");
}

#[test]
fn every_hue_has_a_colour() {
    let is_hue = |name: &&str| name.starts_with("hue");
    assert_eq!(COLOURS.iter().map(|(name, ..)| *name).filter(is_hue).count(), HUES);
}
