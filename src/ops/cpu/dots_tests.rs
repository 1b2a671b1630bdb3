//! Tests of `dots`.

use super::*;

#[test]
fn products_have_the_bits_of_those_that_are_computed_alone() {
    for len in [0, 1, 6, 15, 16, 17, 32, 37, 64, 80, 96, 128, 256] {
        let number = |i: usize| ((i * 7919 % 1009) as f32 - 500.0) * 1e-2f32.powi((i % 5) as i32);
        let a: Vec<f32> = (0..len).map(number).collect();
        for count in [0, 1, 7, 8, 9, 16, 23] {
            let mut b: Vec<f32> = (0..len * count).map(|i| number(i + 31)).collect();
            // What is not finite, and zeros with a sign.
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, -0.0, f32::MAX];
            b.iter_mut().skip(3).step_by(97).zip(odd).for_each(|(b, odd)| *b = odd);
            let row = |row: usize| &b[row * len..][..len];
            let mut products = vec![0f32; count];
            dots(&a, (0..count).map(row), &mut products);
            let alone: Vec<f32> = (0..count).map(|at| vectorised(|| dot(&a, row(at)))).collect();
            let bits = |products: &[f32]| products.iter().map(|x| if x.is_nan() { 0 } else { x.to_bits() }).collect::<Vec<_>>();
            assert_eq!(bits(&products), bits(&alone), "{count} rows of {len}");
        }
    }
}
