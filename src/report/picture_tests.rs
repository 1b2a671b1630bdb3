//! Tests of `picture`: which names a chart can have, by the features of the build.

use super::*;

#[test]
fn a_png_file_is_refused_by_a_build_without_the_feature_which_it_names() {
    assert!(Chart::check_path(Path::new("a.svg")).is_ok());
    match (Chart::check_path(Path::new("a.png")), cfg!(feature = "pictures")) {
        (Ok(()), has_pictures) => assert!(has_pictures),
        (Err(error), has_pictures) => assert!(!has_pictures && error.to_string().contains("--features pictures"), "{error}"),
    }
}
