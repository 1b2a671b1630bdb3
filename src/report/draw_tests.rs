//! Tests of what is drawn of points, and of texts that have too little room.

use super::super::axis::Scale;
use super::*;

fn drawn(points: Vec<Point>, style: Style) -> String {
    svg(&Chart::new("t", "x", vec![Panel::new("y", vec![Series::new("", style, points)])]), Theme::Light)
}

#[test]
fn lines_and_bands_have_a_gap_where_a_value_is_missing() {
    let known = |x: u8| Point::new(x.into(), x.into()).between(f64::from(x) - 1.0, f64::from(x) + 1.0);
    let mut points: Vec<Point> = (0..6).map(known).collect();
    points[2].interval = None;
    let svg = drawn(points.clone(), Style::Line);
    assert_eq!((svg.matches("<polygon").count(), svg.matches("<polyline").count()), (2, 1), "{svg}");
    points[2].y = f64::NAN;
    let svg = drawn(points, Style::Line);
    assert_eq!((svg.matches("<polygon").count(), svg.matches("<polyline").count()), (2, 2), "{svg}");
}

#[test]
fn markers_without_a_line_have_bars_for_intervals() {
    let svg = drawn(vec![Point::new(0.0, 1.0).between(0.0, 2.0), Point::new(1.0, 1.0)], Style::Markers);
    assert!(!svg.contains("<polygon") && !svg.contains("<polyline"), "{svg}");
    assert_eq!(svg.matches("stroke-width=\"1.5\"").count(), 1, "{svg}");
}

#[test]
fn texts_are_escaped_and_cut_to_the_room_there_is() {
    let long = "<b> ".repeat(100);
    let points = vec![Point::new(0.0, 1.0), Point::new(1.0, 2.0)];
    let panel = Panel::new(&long, vec![Series::new(&long, Style::Line, points)]);
    let panel = Panel { reference: Some((1.5, long.clone())), y_scale: Scale::Log, ..panel };
    let svg = svg(&Chart::new("t", "x", vec![panel]), Theme::Dark);
    assert!(!svg.contains("<b>"), "{svg}");
    let texts: Vec<&str> = svg.split("</text>").filter(|text| text.contains("&lt;b&gt;")).collect();
    assert_eq!(texts.len(), 3, "label, name and reference: {svg}");
    assert!(texts.iter().all(|text| text.ends_with('…')), "{texts:?}");
    assert_eq!(shortened("short", 100.0), "short");
    assert!(width_of(&shortened(&long, 100.0)) <= 100.0);
}

#[test]
fn a_legend_goes_on_below_where_one_line_is_too_short() {
    let series = |count: usize| (0..count).map(|_| Series::new("a name", Style::Line, vec![Point::new(0.0, 0.0)])).collect();
    let height = |count| {
        let svg = svg(&Chart::new("", "x", vec![Panel::new("y", series(count))]), Theme::Page);
        svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(height(2), height(0));
    assert_eq!(height(20), height(0) + 2.0 * HEADER);
}
