//! Pages and charts: what `bipo steer --report` writes, and the pictures of a run. The tests that open a page need Chromium
//! (`BIPO_CHROMIUM` names another program than `chromium`) and fail where it is missing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bipo::report::{
    Cell, Chart, Generations, Page, Panel, Point, Scale, Section, SectionPart, Series, ShownAnswer, Style, Table, Theme, curves,
};
use serde_json::Value;

use crate::cli::{Place, assert_ok, assert_refused, fixture, text};

const HOSTILE: &str =
    "</p><script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\"> & 'it';\u{1b}[31m";

/// Every kind of block, each with a hostile text.
fn page() -> Page {
    let effect: Vec<Point> =
        (-4..=4).map(|i| f64::from(i) / 2.0).map(|m| Point::new(m, 1.5 * m).between(1.5 * m - 0.4, 1.5 * m + 0.4)).collect();
    let damage: Vec<Point> = effect.iter().map(|point| Point::new(point.x, 12.0 * point.x.powi(2).exp())).collect();
    let curve = |name: &str, points: &[Point]| Series::new(name, Style::Dotted, points.to_vec());
    let panels = vec![
        Panel::new("margin", vec![curve("BiPO", &effect), curve(HOSTILE, &damage)]),
        Panel { y_scale: Scale::Log, ..Panel::new("perplexity", vec![curve("BiPO", &damage)]) },
    ];
    let layers: Vec<Point> = (8..=20).map(|l| Point::new(f64::from(l), f64::from(l % 7)).between(0.0, 7.0)).collect();
    let layers = curves::layer_profile("score", &layers, Some(13), (2.0, HOSTILE));
    let number = Cell { value: "0.50".into(), interval: Some(("-0.25".into(), "0.75".into())) };
    let table = Table {
        caption: HOSTILE.into(),
        columns: vec![HOSTILE.into(), "magnitude".into(), "margin".into()],
        rows: vec![vec![Cell::new(HOSTILE), Cell::new("-1"), number]],
    };
    let answers =
        [Some(-2.0), Some(0.0), None].map(|magnitude| ShownAnswer { magnitude, text: HOSTILE.into(), note: HOSTILE.into() });
    Page {
        title: format!("Report {HOSTILE}"),
        summary: HOSTILE.into(),
        command: "bipo steer --prompt 'it'\\''s'".into(),
        seed: Some(11),
        settings: vec![("model".into(), HOSTILE.into())],
        sections: vec![
            Section::new(
                HOSTILE,
                vec![SectionPart::Text(HOSTILE.into()), SectionPart::Chart(Chart::new("Dose", "magnitude", panels))],
            ),
            Section::new("Layers", vec![SectionPart::Chart(layers), SectionPart::Table(table)]),
            Section::new(
                "Texts",
                vec![SectionPart::Generations(Generations {
                    prompt: HOSTILE.into(),
                    subject: HOSTILE.into(),
                    answers: answers.to_vec(),
                })],
            ),
        ],
    }
}

/// What Chromium made of a page.
struct Opened {
    dom: String,
    /// Lines of the console.
    console: Vec<String>,
    /// What the page, not the browser, asked for beyond its own file.
    requests: Vec<String>,
}

/// Opens a file in a Chromium of its own.
fn open(file: &Path, flags: &[&str]) -> Opened {
    let profile = tempfile::tempdir().unwrap();
    let net_log = profile.path().join("net.json");
    let program = std::env::var("BIPO_CHROMIUM").unwrap_or_else(|_| "chromium".into());
    let common = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                  --disable-component-update --disable-sync --enable-logging=stderr --dump-dom";
    let output = Command::new(&program)
        .args(common.split_whitespace())
        .args(flags)
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--log-net-log={}", net_log.display()))
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: install Chromium (Debian: apt-get install chromium)"));
    assert_ok(&output);
    let log: Value = serde_json::from_slice(&fs::read(net_log).unwrap()).unwrap();
    let start = &log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"];
    let jobs = log["events"].as_array().unwrap().iter().filter(|event| &event["type"] == start).map(|event| &event["params"]);
    // What the browser asks for by itself has no page as its initiator.
    let of_page = jobs.filter(|job| job["initiator"] != "not an origin");
    // The end of a job is an event of the same type, without a URL.
    let of_page = of_page.filter_map(|job| job["url"].as_str().map(str::to_owned));
    let requests = of_page.filter(|url| !url.starts_with("file:") && !url.starts_with("data:")).collect();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let console = stderr.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    Opened { dom: String::from_utf8_lossy(&output.stdout).into_owned(), console, requests }
}

fn assert_alone(opened: &Opened) {
    assert!(opened.console.is_empty(), "{:?}", opened.console);
    assert!(opened.requests.is_empty(), "{:?}", opened.requests);
}

/// A short run's vector, and the page of a sweep with it.
fn steer_report(place: &Place, more: &[&str]) -> std::process::Output {
    assert_ok(&place.train("out", &[]));
    let model = fixture("llama");
    let args = ["steer", "--model", &model, "--vector", "out/steering_vector.safetensors", "--max-new-tokens", "6"];
    place.bipo(&[&args[..], &["--prompt", HOSTILE.trim_end_matches("\u{1b}[31m"), "--report", "page.html"], more].concat())
}

#[test]
fn the_page_of_a_sweep_has_its_texts_settings_seed_and_a_command_that_makes_it_again() {
    let place = Place::new();
    let output = steer_report(&place, &["--json", "--magnitudes", "-1,0.1", "--seed", "42"]);
    assert_ok(&output);
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["results"].as_array().unwrap().len(), 2);
    for part in
        ["<header>−1</header>", "<header>+0.1</header>", "<strong>42</strong>", "out/steering_vector.safetensors", "norm"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("default-src 'none'"));
    // The command of the page, read by a shell, makes the same page.
    let command = page.split("<code>").nth(1).unwrap().split("</code>").next().unwrap();
    let unescape = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let command = unescape.iter().fold(command.to_owned(), |text, (from, to)| text.replace(from, to));
    fs::remove_file(place.path("page.html")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_bipo")).parent().unwrap();
    let again = Command::new("/bin/sh")
        .args(["-c", &command])
        .current_dir(place.path(""))
        .env("PATH", program)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_ok(&again);
    assert_eq!(fs::read_to_string(place.path("page.html")).unwrap(), page);
}

#[test]
fn a_page_that_cannot_be_written_is_refused_before_the_model_is_read() {
    let place = Place::new();
    fs::create_dir(place.path("folder")).unwrap();
    for (path, expected) in [("nowhere/page.html", "nowhere is no directory: make it first"), ("folder", "it is a directory")] {
        let args = ["steer", "--model", "no/such-model", "--prompt", "a", "--report", path];
        assert_refused(&place.bipo(&args), &["--report", path], expected);
    }
}

#[test]
fn a_run_leaves_its_curve_as_svg_and_png_and_in_its_card() {
    let place = Place::new();
    assert_ok(&place.train("a", &["--eval-dataset", "pairs.csv"]));
    assert_ok(&place.train("b", &["--eval-dataset", "pairs.csv"]));
    let svg = fs::read_to_string(place.path("a/training.svg")).unwrap();
    for part in ["<svg ", "loss", "margin", "norm of the vector", "held out, d = +1", "step", "ln 2"] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
    let png = fs::read(place.path("a/training.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!(size(16), 2 * 680, "two pixels to a CSS pixel");
    assert_eq!(png, fs::read(place.path("b/training.png")).unwrap());
    let card = fs::read_to_string(place.path("a/README.md")).unwrap();
    assert!(card.contains("](training.png)\n"), "{card}");
}

#[test]
fn a_curve_that_cannot_be_written_loses_neither_vector_nor_card() {
    let place = Place::new();
    fs::create_dir_all(place.path("out/training.svg/full")).unwrap();
    let output = place.train("out", &[]);
    assert_ok(&output);
    assert!(
        text(&output.stderr).contains("warning: no training curve: cannot write out/training.svg"),
        "{}",
        text(&output.stderr)
    );
    assert!(!place.vector("out").is_empty());
    assert!(!fs::read_to_string(place.path("out/README.md")).unwrap().contains("training.png)"));
}

#[test]
fn charts_of_nothing_of_one_point_and_of_what_is_not_finite_are_drawn() {
    let values = [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e308, -1e308, 1e-300, 5.0];
    let points = |count: usize| -> Vec<Point> {
        values[..count].iter().enumerate().map(|(x, y)| Point::new(x as f64, *y).between(*y, f64::NAN)).collect()
    };
    let scales = [Scale::Linear, Scale::Whole, Scale::Log];
    let chart = |x_scale, y_scale, points: Vec<Point>| {
        let panel = Panel { y_scale, ..Panel::new("y", vec![Series::new("s", Style::Dotted, points)]) };
        Chart { x_scale, ..Chart::new("t", "x", vec![Panel { reference: Some((f64::NAN, "r".into())), ..panel }]) }
    };
    for count in 0..=values.len() {
        for (x_scale, y_scale) in scales.into_iter().flat_map(|x| scales.map(|y| (x, y))) {
            let chart = chart(x_scale, y_scale, points(count));
            let svg = chart.to_svg(Theme::Light);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{count}: {svg}");
            assert!(chart.to_png(Theme::Dark).unwrap().len() > 1000);
        }
    }
    for (low, spread) in [0.0, 1.0, -1e6].into_iter().flat_map(|low| [1e-12, 1e-5, 1.0, 1e9, 1e99].map(|spread| (low, spread)))
    {
        for y_scale in scales {
            let ends = vec![Point::new(0.0, low), Point::new(spread, low + spread)];
            let svg = chart(Scale::Linear, y_scale, ends).to_svg(Theme::Light);
            assert!((7..40).contains(&svg.matches("<text").count()), "{low} {spread}: {svg}");
        }
    }
    assert!(Chart::default().to_svg(Theme::Light).starts_with("<svg"));
    assert!(curves::training(&[], &[]).to_png(Theme::Light).is_ok());
}

#[test]
fn a_chart_is_written_by_its_extension() {
    let place = Place::new();
    let points = vec![Point::new(0.0, 1.0)];
    let chart = Chart::new("t", "x", vec![Panel::new("y", vec![Series::new("s", Style::Dotted, points)])]);
    chart.write(&place.path("a.svg")).unwrap();
    chart.write(&place.path("a.png")).unwrap();
    let error = chart.write(&place.path("a.pdf")).unwrap_err();
    assert!(error.to_string().ends_with("a chart's file ends in .svg or .png") && error.exit_code() == 2, "{error}");
    assert!(!place.path("a.pdf").exists());
}

/// An evaluation's page and pictures, with a vector, a direction and an instruction beside it.
fn eval_report(place: &Place) {
    assert_ok(&place.train("out", &[]));
    fs::write(place.path("mc.csv"), "question,A,B,C,D,answer\none?,a,b,c,d,A\ntwo?,a,b,c,d,B\n").unwrap();
    let model = fixture("llama");
    let args = ["eval", "--model", &model, "--vector", "out/steering_vector.safetensors", "--dataset", "pairs.csv"];
    let texts = ["--magnitudes=-2..2:1", "--max-new-tokens", "4", "--prompt", "a <b> c", "--prompt", "d", "--mc", "mc.csv"];
    let beside = ["--baseline", "random", "--baseline", "prompt", "--baseline-system", "Be <i>brief</i>."];
    let files = ["--report", "page.html", "--plot", "curve.svg", "--plot", "curve.png"];
    assert_ok(&place.bipo(&[&args[..], &texts, &beside, &files].concat()));
}

#[test]
fn the_page_of_an_evaluation_has_every_table_curve_and_text() {
    let place = Place::new();
    eval_report(&place);
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    for title in ["Preference", "Multiple choice", "Damage", "Generations", "Settings", "Reproduce"] {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}: {page}");
    }
    // Five rows of the vector, four of the direction, one of the instruction, in each of three tables.
    assert_eq!(page.matches("<tr>").count() - page.matches("<thead><tr>").count(), 3 * 10);
    // A panel a measure, and the signs of the two series that have a line, once.
    assert_eq!(page.matches("<svg").count(), 3 + 1 + 3 + 2);
    assert_eq!(page.matches("<article").count(), 2 * 10);
    assert_eq!(page.matches("<header>no vector</header>").count(), 2);
    assert!(page.contains("<bdi>a &lt;b&gt; c</bdi> <span>random</span>"), "{page}");
    assert!(page.contains("Be &lt;i&gt;brief&lt;/i&gt;."));
    let svg = fs::read_to_string(place.path("curve.svg")).unwrap();
    for part in [
        "margin",
        "moved right, %",
        "mc.accuracy, %",
        "perplexity ratio",
        "KL",
        "repetition, %",
        "random",
        "prompt",
        "magnitude",
    ] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
    assert!(fs::read(place.path("curve.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn layers_are_drawn_with_the_winner_pointed_out() {
    let place = Place::new();
    let model = fixture("llama");
    let args = ["layers", "--model", &model, "--dataset", "pairs.csv", "--eval-dataset", "pairs.csv", "--max-steps", "2"];
    let output = place.bipo(&[&args[..], &["--json", "--plot", "layers.svg"]].concat());
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let svg = fs::read_to_string(place.path("layers.svg")).unwrap();
    for part in ["held-out loss", "no vector", &format!("layer {}", report["best_layer"])] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
    let refused = place.bipo(&[&args[..], &["--plot", "layers.pdf"]].concat());
    assert_refused(&refused, &["--plot", "layers.pdf"], "a chart's file ends in .svg or .png");
}

#[test]
#[ignore = "needs Chromium"]
fn a_browser_shows_the_page_of_an_evaluation() {
    let place = Place::new();
    eval_report(&place);
    let opened = open(&place.path("page.html"), &[]);
    assert_alone(&opened);
    assert_eq!(opened.dom.matches("<svg").count(), 3 + 1 + 3 + 2);
    assert!(opened.dom.contains("bipo eval --model"));
}

#[test]
#[ignore = "needs Chromium"]
fn a_browser_shows_hostile_texts_asks_for_nothing_and_logs_nothing() {
    let place = Place::new();
    let page = page();
    page.write(&place.path("page.html")).unwrap();
    for scheme in ["--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"] {
        let opened = open(&place.path("page.html"), &[scheme]);
        assert_alone(&opened);
        let dom = &opened.dom;
        assert!(!dom.contains("<script") && !dom.contains("<img") && dom.contains("<title>Report"), "{dom}");
        let shown = dom.matches("&lt;/p&gt;&lt;script&gt;document.title = 'taken'&lt;/script&gt;").count();
        // Title twice, summary, setting, heading, paragraph, legend, caption, column, cell, prompt, subject, three texts with notes.
        assert_eq!(shown, 18, "{dom}");
        assert_eq!(dom.matches("<svg").count(), 7);
    }
}

#[test]
#[ignore = "needs Chromium"]
fn a_browser_shows_the_page_of_a_real_sweep() {
    let place = Place::new();
    assert_ok(&steer_report(&place, &["--magnitudes", "-2..2:0.5"]));
    let opened = open(&place.path("page.html"), &[]);
    assert_alone(&opened);
    assert_eq!(opened.dom.matches("<article").count(), 9);
    assert!(opened.dom.contains("<h2>Reproduce</h2>") && opened.dom.contains("bipo steer --model"));
}

#[test]
#[ignore = "needs Chromium"]
fn no_part_of_a_page_is_wider_than_the_screen() {
    let place = Place::new();
    page().write(&place.path("page.html")).unwrap();
    for width in [360, 768, 1280] {
        let measure = format!(
            "<!DOCTYPE html><iframe id=f src=page.html style='border:0;width:{width}px;height:800px'></iframe><script>
            f.onload = () => {{ const inside = f.contentDocument;
            const wide = [...inside.querySelectorAll('*')].filter((part) => part.getBoundingClientRect().right > {width} + 0.5);
            const by = inside.documentElement.scrollWidth - inside.documentElement.clientWidth;
            document.title = 'too wide by ' + by + ': ' + wide.map((part) => part.tagName) }}</script>"
        );
        fs::write(place.path("screen.html"), measure).unwrap();
        let opened = open(&place.path("screen.html"), &["--allow-file-access-from-files"]);
        assert!(opened.dom.contains("<title>too wide by 0: </title>"), "{width}: {}", opened.dom);
    }
}
