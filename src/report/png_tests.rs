//! Tests of `png`: where the outlines of a text stand.

use resvg::tiny_skia::Rect;

use super::*;

/// The box around the drawn outlines of a text of 20 pixels at (50, 40).
fn bounds(anchor: &str, content: &str) -> Rect {
    let text = format!("<text x=\"50\" y=\"40\" dy=\"0.35em\" font-size=\"20\" fill=\"#000000\" {anchor}>{content}</text>");
    let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100\" height=\"80\">{text}</svg>");
    let outlines = outlined(&svg).unwrap();
    assert!(!outlines.contains("<text"), "{outlines}");
    Tree::from_str(&outlines, &Options::default()).unwrap().root().abs_bounding_box()
}

#[test]
fn a_text_stands_where_its_anchor_says() {
    let (start, middle, end) =
        (bounds("", "HHH"), bounds("text-anchor=\"middle\"", "HHH"), bounds("text-anchor=\"end\"", "HHH"));
    // Three capitals of 0.741 em each in Noto Sans, whose stems stand 0.098 em inside.
    for (found, left) in [(start, 50.0), (middle, 50.0 - 22.23), (end, 50.0 - 44.46)] {
        assert!((found.left() - (left + 1.96)).abs() < 0.1, "{found:?}");
        assert!((found.width() - (44.46 - 2.0 * 1.96)).abs() < 0.2, "{found:?}");
    }
    // Capitals are 0.714 em high, on a line 0.35 em below the place.
    assert!((start.bottom() - 47.0).abs() < 0.1 && (start.height() - 14.28).abs() < 0.1, "{start:?}");
}

#[test]
fn escaped_characters_and_those_that_the_font_lacks_are_drawn() {
    assert!(bounds("", "&lt;").width() > 5.0);
    assert!(bounds("", "\u{1F99C}").width() > 5.0);
}
