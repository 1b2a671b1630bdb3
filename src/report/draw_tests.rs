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
        let svg = svg(&Chart::new("", "x", vec![Panel::new("y", series(count))]), Theme::Light);
        svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(height(2), height(0));
    assert_eq!(height(20), height(0) + 2.0 * HEADER);
}

#[test]
fn an_axis_without_0_is_marked_as_cut_and_a_place_has_its_name_once() {
    let chart = |low: f64, y_scale| {
        let series = || vec![Series::new("", Style::Line, vec![Point::new(0.0, low), Point::new(4.0, 10.0 * low + 1.0)])];
        let panel = || Panel { y_scale, ..Panel::new("y", series()) };
        let mark = Some((1.0, "kept".to_owned()));
        svg(&Chart { mark, ..Chart::new("", "x", vec![panel(), panel()]) }, Theme::Light)
    };
    let cut = |svg: &str| svg.matches("l10 -4m-10 8l10 -4").count();
    let svg = chart(5.0, Scale::Linear);
    assert_eq!((cut(&svg), svg.matches(">kept<").count(), svg.matches("stroke-dasharray").count()), (0, 1, 2), "{svg}");
    let narrow = |y| vec![Series::new("", Style::Line, vec![Point::new(0.0, y), Point::new(1.0, y + 1.0)])];
    assert_eq!(cut(&super::svg(&Chart::new("", "x", vec![Panel::new("y", narrow(90.0))]), Theme::Light)), 1);
    assert_eq!(cut(&super::svg(&Chart::new("", "x", vec![Panel::new("y", narrow(-0.5))]), Theme::Light)), 0);
    // Of a logarithmic axis nobody expects a 0.
    assert_eq!(cut(&chart(5.0, Scale::Log)), 0);
}

#[test]
fn the_name_of_a_place_is_clear_of_the_reference_and_of_the_points() {
    let points = (0..=40).map(|x| Point::new(f64::from(x), 0.69 - 0.01 * f64::from(x))).collect();
    let panel =
        Panel { reference: Some((0.693, "ln 2".to_owned())), ..Panel::new("loss", vec![Series::new("", Style::Line, points)]) };
    let y_of = |svg: &str, word: &str| -> f64 {
        let line = svg.lines().find(|line| line.contains(&format!(">{word}<"))).unwrap();
        line.split(" y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    };
    for place in [0.0, 12.0, 24.0, 40.0] {
        let mark = Some((place, "kept: epoch 2".to_owned()));
        let svg = svg(&Chart { mark, ..Chart::new("", "step", vec![panel.clone()]) }, Theme::Light);
        assert!((y_of(&svg, "kept: epoch 2") - y_of(&svg, "ln 2")).abs() >= 12.0, "{svg}");
    }
}

#[test]
fn a_page_has_each_panel_by_itself_and_its_signs_apart() {
    let series = |name: &str| Series::new(name, Style::Dotted, vec![Point::new(0.0, 1.0).between(0.0, 2.0)]);
    let chart = Chart::new("t", "x", vec![Panel::new("a", vec![series("s"), series("")]), Panel::new("b", vec![series("s")])]);
    let svgs = panels(&chart);
    assert!(svgs.len() == 2 && svgs.iter().all(|svg| !svg.contains(">s<") && svg.contains("var(--hue0)")), "{svgs:?}");
    let signs = legend(&chart.panels[0]);
    assert!(signs.len() == 1 && signs[0].0 == "s" && signs[0].1.starts_with("<svg"), "{signs:?}");
}

#[test]
fn where_the_y_axis_has_names_intervals_lie_along_the_x_axis_and_reach_into_it() {
    let series = Series::new("", Style::Markers, vec![Point::new(1.0, 0.0).between(-2.0, 3.0), Point::new(2.0, 1.0)]);
    let panel = Panel { names: vec!["first".into(), "second".into()], ..Panel::new("method", vec![series]) };
    let svg = svg(&Chart::new("", "x", vec![panel]), Theme::Light);
    // The value of an attribute of the text in which a word stands.
    let of = |word: &str, name: &str| -> f64 {
        let line = svg.lines().find(|line| line.contains(&format!(">{word}<"))).unwrap();
        line.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    };
    let bar = svg.lines().find(|line| line.contains("stroke-width=\"1.5\"")).unwrap();
    let bar = bar.split(['"', 'M', ' ', 'H']).filter_map(|part| part.parse::<f64>().ok()).take(3).collect::<Vec<_>>();
    // From the tick −2 to the tick 3, in the line of the first name, which is above the second.
    assert_eq!(bar, [of("−2", "x"), of("first", "y"), of("3", "x")], "{svg}");
    assert_eq!(of("second", "y") - of("first", "y"), LINE);
    // Neither a cut nor an axis at the first name.
    assert!(!svg.contains("l10 -4m-10 8l10 -4"), "{svg}");
}
