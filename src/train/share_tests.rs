//! The interval of a share.

use super::*;

/// `scipy.stats.binomtest(k, n).proportion_ci(method="wilson")` of SciPy 1.
#[test]
fn the_interval_of_a_share_is_wilsons_and_holds_the_share() {
    for (hits, n, low) in [(4.0, 4, 0.510_109_163_5), (35.0, 50, 0.562_496_495_4), (1.0, 300, 0.000_588_657_7)] {
        let share = hits / n as f64;
        let [found, high] = wilson(share, n).unwrap();
        assert!((found - low).abs() < 1e-10 && found <= share && share <= high && high <= 1.0, "{hits} of {n}: {found} {high}");
    }
    assert_eq!(wilson(1.0, 4).unwrap()[1], 1.0);
    assert_eq!(wilson(0.0, 4).unwrap()[0], 0.0);
}

#[test]
fn a_share_is_said_in_percent_with_its_interval_where_its_cases_are_known() {
    assert_eq!(in_percent(1.0, 48), "100 % [93, 100]");
    assert_eq!(in_percent(0.7, 50), "70 % [56, 81]");
    assert_eq!(in_percent(1.0, 0), "100 %");
    for no_share in [f64::NAN, f64::INFINITY, 1.5, -0.1] {
        assert_eq!(wilson(no_share, 4), None);
        assert!(!in_percent(no_share, 4).contains('['), "{no_share}");
    }
}
