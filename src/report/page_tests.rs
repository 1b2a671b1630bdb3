//! Tests of the page's parts: tables, and texts by magnitude.

use super::super::{Cell, ShownAnswer};
use super::*;

fn html(block: SectionPart) -> String {
    let page = Page { sections: vec![Section::new("s", vec![block])], ..Page::default() };
    page.to_html().unwrap()
}

#[test]
fn every_row_has_the_cells_of_the_header_and_intervals_their_own() {
    let interval = Some(("-0.25".into(), "0.75".into()));
    let table = Table {
        caption: "A & B".into(),
        columns: vec!["<m>".into(), "margin".into(), "share".into()],
        rows: vec![
            vec![Cell::new("a-b"), Cell { value: "0.50".into(), interval }, Cell::new("-1.0 %")],
            vec![Cell::new("mean"), Cell::new("-"), Cell::new("0")],
        ],
    };
    let html = html(SectionPart::Table(table));
    assert!(html.contains("<caption>A &amp; B</caption>") && html.contains("&lt;m&gt;"), "{html}");
    let number = "<td data-column=\"margin\">0.50 <span class=\"ci\">[−0.25, 0.75]</span></td>";
    let first = format!("<tr><th scope=\"row\">a-b</th>{number}<td data-column=\"share\">−1.0 %</td></tr>");
    assert!(html.contains(&first), "{html}");
    assert!(html.contains("<tr><th scope=\"row\">mean</th><td data-column=\"margin\">—</td>"), "{html}");
    assert_eq!((html.matches("<th ").count(), html.matches("<td").count()), (3 + 2, 2 * 2));
}

#[test]
fn colours_grow_with_the_magnitude_of_either_sign() {
    let answer = |magnitude| ShownAnswer { magnitude: Some(magnitude), ..ShownAnswer::default() };
    let answers = vec![answer(-1.0), answer(0.0), answer(2.0)];
    let html = html(SectionPart::Generations(Generations { prompt: "p".into(), answers, ..Generations::default() }));
    for attributes in [
        "class=\"answer negative\" style=\"--strength:50%\"><header>−1</header>",
        "class=\"answer zero\" style=\"--strength:0%\"><header>0</header>",
        "class=\"answer positive\" style=\"--strength:100%\"><header>+2</header>",
        "<span>−2</span><span class=\"bar\"></span><span>+2</span>",
    ] {
        assert!(html.contains(attributes), "{html}");
    }
}

#[test]
fn what_a_model_writes_is_no_markup() {
    let answer = ShownAnswer { magnitude: Some(f64::NAN), text: "</p><script>alert(1)</script>".into(), note: "<b>".into() };
    let markup = "<img src=x onerror=alert(1)>";
    let texts = Generations { prompt: markup.into(), subject: markup.into(), answers: vec![answer] };
    let html = html(SectionPart::Generations(texts));
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>"), "{html}");
    assert!(html.contains("&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
}
