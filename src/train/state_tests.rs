//! Tests of `state`.

use super::*;

#[test]
fn a_run_from_a_vector_starts_at_that_vector_whatever_the_learned_factor() {
    let init: Vec<f32> = (0..16).map(|i| 0.25 * i as f32 - 1.0).collect();
    for factor in [Factor::One, Factor::Learned { scale: 4.0, lr: 20.0 }, Factor::Learned { scale: 0.3, lr: 1.0 }] {
        let config = TrainConfig { init: Some(init.clone()), factor: factor.clone(), ..TrainConfig::at(1) };
        let state = TrainState::new(&config, 16, 3);
        let is_near = |(found, wanted): (&f32, &f32)| (found - wanted).abs() <= 1e-6 * wanted.abs();
        assert!(state.scaled().iter().zip(&init).all(is_near), "{factor:?}: {:?}", state.scaled());
        if let Factor::Learned { scale, .. } = factor {
            assert_eq!(state.learned_factor(), (4.0 * scale) as f32);
        }
    }
}
