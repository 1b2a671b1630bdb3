//! A share of cases, such as the pairs that a vector moves the right way, with its 95 % interval: Wilson's score interval (Wilson 1927),
//! which is wide where cases are few even if all are alike: 4 of 4 give [0.51, 1].

/// The 97.5th percentile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Returns the ends of the interval of a share of `cases` cases, both from 0 to 1; `None` without cases, and for a number that is no share.
pub fn wilson(share: f64, cases: usize) -> Option<[f64; 2]> {
    if cases == 0 || !(0.0..=1.0).contains(&share) {
        return None;
    }
    let n = cases as f64;
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // At 0 and 1 an end is the share, but for rounding.
    Some([(middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0)])
}

/// Says a share of `cases` cases in percent, with its interval: `87 % [75, 94]`. Without cases, whose number may not be known, it is said
/// alone.
pub fn in_percent(share: f64, cases: usize) -> String {
    let value = format!("{:.0} %", 100.0 * share);
    match wilson(share, cases) {
        Some([low, high]) => format!("{value} [{:.0}, {:.0}]", 100.0 * low, 100.0 * high),
        None => value,
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
