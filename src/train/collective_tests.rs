//! Tests of `collective`.

use super::*;

fn part(loss: f64, margins: &[f64], gradient: &[f32], rows: usize) -> GradientPart {
    GradientPart { loss, margins: margins.to_vec(), gradient: gradient.to_vec(), rows }
}

#[test]
fn a_single_part_is_the_whole_to_the_bit() {
    let whole = part(0.1 + 0.2, &[0.3, -0.7, 1e-9], &[0.1, -1e-30, f32::MAX], 17);
    assert_eq!(Collective::SingleProcess.sum(std::slice::from_ref(&whole)), whole);
}

#[test]
fn parts_weigh_what_they_hold_and_stay_in_order() {
    let parts = [part(1.0, &[1.0, 2.0, 3.0], &[4.0, 0.0], 10), part(5.0, &[4.0], &[0.0, 8.0], 3)];
    assert_eq!(Collective::SingleProcess.sum(&parts), part(2.0, &[1.0, 2.0, 3.0, 4.0], &[3.0, 2.0], 13));
}

#[test]
fn the_gradient_is_added_in_the_order_of_the_parts() {
    let parts = [1e8f32, -1e8, 1.0].map(|g| part(0.0, &[0.0], &[g], 0));
    let share = 1.0f64 / 3.0;
    let in_order = parts.iter().fold(0f32, |sum, part| sum + share as f32 * part.gradient[0]);
    assert_eq!(Collective::SingleProcess.sum(&parts).gradient, [in_order]);
    assert_ne!(share as f32 * 1e8 + (share as f32 * -1e8 + share as f32), in_order);
}
