//! Tests of `damage`.

use super::*;

#[test]
fn repeated_ngrams_are_those_seen_before_in_the_text() {
    assert_eq!(repeated(&[1, 2, 3]), [0.0, 0.0]);
    assert_eq!(repeated(&[1, 2, 3, 4, 5]), [0.0, 2.0]);
    // 1234, 2341, 3412, 4123, then 1234 and 2341 again.
    assert_eq!(repeated(&[1, 2, 3, 4, 1, 2, 3, 4, 1]), [2.0, 6.0]);
    assert_eq!(repeated(&[7; 10]), [6.0, 7.0]);
}

#[test]
fn repetition_is_the_share_of_all_texts_together() {
    let bootstrap = Bootstrap { resamples: 10, seed: 0 };
    let measure = repetition(&[&[7; 10], &[1, 2, 3, 4], &[]], &bootstrap).unwrap();
    assert_eq!(measure.estimate.value, 6.0 / 8.0);
    assert!(repetition(&[&[1, 2, 3]], &bootstrap).is_none());
}

/// KL of (1/2, 1/4, 1/4) from the uniform distribution: ½ ln(3/2) + 2·¼ ln(3/4).
#[test]
fn divergence_is_that_of_the_formula() {
    let distributions = |p: [f32; 3]| {
        let logits: Vec<f32> = p.iter().map(|p| p.ln() + 7.0).collect();
        let log_sums = vec![log_sum_exp(&logits)];
        Distributions { logits, vocab: 3, log_sums }
    };
    let (p, q) = (distributions([0.5, 0.25, 0.25]), distributions([1.0; 3]));
    let expected = 0.5 * 1.5_f64.ln() + 0.5 * 0.75_f64.ln();
    assert!((p.kl(&q)[0] - expected).abs() < 1e-7);
    assert_eq!(p.kl(&p), [0.0]);
    assert!((p.nll(&[0]).next().unwrap() - 2.0_f64.ln()).abs() < 1e-6);
}

/// Tokens that are all harder by ln 2 double the perplexity, however far they lie apart.
#[test]
fn ratio_of_perplexities_has_the_interval_of_the_changes() {
    let bare_nll = vec![0.1, 5.0, 2.0];
    let nll = bare_nll.iter().map(|nll| nll + 2.0_f64.ln()).collect();
    let measures = text_measures(&TextScore { nll, bare_nll, kl: vec![0.0; 3] }, &Bootstrap { resamples: 50, seed: 0 });
    let ratio = measures.iter().find(|measure| measure.name == "perplexity_ratio").unwrap().estimate;
    assert!([ratio.value, ratio.low, ratio.high].iter().all(|end| (end - 2.0).abs() < 1e-12), "{ratio:?}");
}
