//! Draws against the probabilities that softmax gives by formula.

use candle_core::Device;

use super::*;

fn options(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> GenerateOptions {
    GenerateOptions { temperature, top_k, top_p, seed: 3, ..GenerateOptions::greedy(1) }
}

/// Logits ln 5, ln 3, ln 2: probabilities 0.5, 0.3, 0.2.
fn logits() -> Tensor {
    Tensor::new(&[5f32.ln(), 3f32.ln(), 2f32.ln()], &Device::Cpu).unwrap()
}

/// Share of each token in many draws.
fn shares(options: &GenerateOptions) -> [f64; 3] {
    const DRAWS: usize = 4000;
    let mut sampler = Sampler::new(&[], options);
    let mut counts = [0; 3];
    (0..DRAWS).for_each(|_| counts[sampler.sample(&logits()).unwrap().unwrap().token as usize] += 1);
    counts.map(|count| f64::from(count) / DRAWS as f64)
}

#[test]
fn draws_follow_the_distribution_that_the_options_leave() {
    for (temperature, top_k, top_p, expected) in [
        (1.0, None, None, [0.5, 0.3, 0.2]),
        (1.0, Some(2), None, [0.625, 0.375, 0.0]),
        (1.0, Some(7), None, [0.5, 0.3, 0.2]),
        (1.0, None, Some(0.6), [0.625, 0.375, 0.0]),
        (1.0, None, Some(0.4), [1.0, 0.0, 0.0]),
        (1.0, Some(2), Some(0.4), [1.0, 0.0, 0.0]),
        // Squares of the probabilities: 25, 9 and 4 of 38.
        (0.5, None, None, [25.0 / 38.0, 9.0 / 38.0, 4.0 / 38.0]),
        (0.0, Some(1), Some(0.1), [1.0, 0.0, 0.0]),
    ] {
        let found = shares(&options(temperature, top_k, top_p));
        let is_near = |(found, expected): (&f64, &f64)| (found - expected).abs() < 0.03 && (*expected > 0.0 || *found == 0.0);
        assert!(found.iter().zip(&expected).all(is_near), "{temperature} {top_k:?} {top_p:?}: {found:?}");
    }
}

#[test]
fn a_draw_does_not_depend_on_the_order_of_tokens_that_cannot_be_drawn() {
    // The likeliest tokens are every hundredth; the others are so unlikely that they do not change a probability.
    let logits = |turned: bool| -> Tensor {
        let unlikely = |i: usize| -100.0 - ((i * 7919) % 1000) as f32 / 100.0;
        let logit = |i: usize| {
            if i.is_multiple_of(100) { (i as f32 / 300.0).sin() } else { unlikely(if turned { 2000 - i } else { i }) }
        };
        Tensor::new((0..2000).map(logit).collect::<Vec<f32>>(), &Device::Cpu).unwrap()
    };
    for top_p in [None, Some(0.7)] {
        let draws = |turned: bool| -> Vec<u32> {
            let mut sampler = Sampler::new(&[], &options(1.0, Some(20), top_p));
            (0..50).map(|_| sampler.sample(&logits(turned)).unwrap().unwrap().token).collect()
        };
        assert_eq!(draws(false), draws(true));
    }
}

#[test]
fn the_penalty_makes_seen_tokens_less_likely_whatever_their_sign() {
    let logits = Tensor::new(&[2f32, -1.0, 1.5], &Device::Cpu).unwrap();
    let sampler = Sampler::new(&[0, 1, 0], &GenerateOptions { repeat_penalty: 2.0, ..GenerateOptions::greedy(1) });
    assert_eq!(sampler.adjusted(&logits).unwrap().to_vec1::<f32>().unwrap(), [1.0, -2.0, 1.5]);
    let mut sampler = Sampler::new(&[0], &GenerateOptions { repeat_penalty: 2.0, ..GenerateOptions::greedy(1) });
    assert_eq!([(); 2].map(|()| sampler.sample(&logits).unwrap().unwrap().token), [2, 0]);
}

#[test]
fn a_bias_is_added_before_a_token_is_chosen_and_log_probs_are_the_models_own() {
    let of = |logit_bias: Vec<(u32, f32)>| {
        let options = GenerateOptions { logit_bias, top_log_probs: Some(2), ..GenerateOptions::greedy(1) };
        Sampler::new(&[], &options).sample(&logits()).unwrap().unwrap()
    };
    let near = |found: f32, expected: f32| (found - expected.ln()).abs() < 1e-6;
    let plain = of(Vec::new());
    let biased = of(vec![(0, f32::NEG_INFINITY), (2, 1.0), (77, 5.0)]);
    assert_eq!((plain.token, biased.token), (0, 2));
    for (found, expected) in [(plain, 0.5), (biased, 0.2)] {
        let log_probs = found.log_probs.unwrap();
        assert!(near(log_probs.chosen, expected), "{log_probs:?}");
        assert!(matches!(log_probs.top[..], [(0, first), (1, second)] if near(first, 0.5) && near(second, 0.3)));
    }
}

/// Recorded with `LogitsProcessor` of candle-transformers 0.11.1.
#[test]
fn the_stream_without_top_k_is_that_of_candle_transformers() {
    let logits = Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().affine(0.05, 0.0).unwrap();
    let draw = |logits: &Tensor, options: &GenerateOptions| -> Vec<u32> {
        let mut sampler = Sampler::new(&[], options);
        (0..8).map(|_| sampler.sample(logits).unwrap().unwrap().token).collect()
    };
    assert_eq!(draw(&logits, &options(0.8, None, None)), RECORDED[0]);
    assert_eq!(draw(&logits, &options(0.8, None, Some(0.5))), RECORDED[1]);
    // Top-k leaves what would be drawn from without the other tokens.
    assert_eq!(draw(&logits, &options(0.8, Some(30), Some(0.5))), RECORDED[1]);
    let (nine, offset) = (logits.narrow(0, 55, 9).unwrap(), 55);
    let among_nine: Vec<u32> = draw(&nine, &options(0.8, None, None)).iter().map(|token| token + offset).collect();
    assert_eq!(draw(&logits, &options(0.8, Some(9), None)), among_nine);
}

const RECORDED: [[u32; 8]; 2] = [[57, 28, 63, 47, 34, 38, 58, 50], [60, 54, 63, 57, 55, 55, 61, 58]];

#[test]
fn of_equally_likely_tokens_the_first_are_kept() {
    let logits = Tensor::new(&[1f32, 2.0, 2.0, 2.0, 2.0], &Device::Cpu).unwrap();
    for (top_k, top_p, kept) in
        [(Some(1), None, 1..=1), (Some(2), None, 1..=2), (None, Some(0.4), 1..=2), (Some(3), Some(0.4), 1..=2)]
    {
        let mut sampler = Sampler::new(&[], &GenerateOptions { top_log_probs: Some(3), ..options(1.0, top_k, top_p) });
        let drawn: HashSet<u32> = (0..60)
            .map(|_| {
                let sampled = sampler.sample(&logits).unwrap().unwrap();
                let top: Vec<u32> = sampled.log_probs.unwrap().top.iter().map(|(token, _)| *token).collect();
                assert_eq!(top, [1, 2, 3]);
                sampled.token
            })
            .collect();
        assert_eq!(drawn, kept.collect());
    }
}
