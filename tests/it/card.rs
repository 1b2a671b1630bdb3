//! The card that a run leaves beside its vector.

use std::fs;

use crate::cli::{Place, assert_ok, fixture, text};

#[test]
fn a_run_leaves_a_card_that_repeats_its_bytes_and_names_no_folder() {
    let place = Place::new();
    fs::create_dir(place.path("templates")).unwrap();
    fs::write(place.path("templates/own.jinja"), "{{ messages[0].content }}\n").unwrap();
    let template = place.path("templates/own.jinja");
    let flags = ["--template", template.to_str().unwrap(), "--eval-dataset", "pairs.csv"];
    assert_ok(&place.train("a", &flags));
    fs::create_dir(place.path("elsewhere")).unwrap();
    assert_ok(&place.train("elsewhere/b", &flags));
    let card = fs::read_to_string(place.path("a/README.md")).unwrap();
    assert_eq!(card, fs::read_to_string(place.path("elsewhere/b/README.md")).unwrap());
    assert!(card.starts_with("---\nlibrary_name: bipo\ntags:\n"), "{card}");
    assert!(card.contains(bipo::report::card::HOOK) && card.contains("| template | own.jinja |"), "{card}");
    assert_eq!(card.matches("\n| 1").count() + card.matches("\n| 2").count(), 2, "a row an epoch: {card}");
    let folders = [place.path(""), fixture("").into(), "templates".into(), "elsewhere".into()];
    let vector = String::from_utf8_lossy(&place.vector("a")).into_owned();
    for folder in folders.iter().map(|folder| folder.to_str().unwrap().trim_end_matches('/')) {
        assert!(!card.contains(folder), "{folder} in the card");
        assert!(!vector.contains(folder), "{folder} in the vector");
    }
}

#[test]
fn a_readme_of_the_user_is_kept_and_said_to_be() {
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/README.md"), "# Mine\n").unwrap();
    let output = place.train("out", &[]);
    assert_ok(&output);
    assert_eq!(fs::read_to_string(place.path("out/README.md")).unwrap(), "# Mine\n");
    assert!(text(&output.stderr).contains("README.md is no model card of bipo"), "{}", text(&output.stderr));
}
