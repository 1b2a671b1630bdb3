use candle_core::{DType, Device};

use super::*;

/// `(rows, 3)`, each element a number of its own from `first` on.
fn numbers(first: usize, rows: usize) -> Tensor {
    let numbers: Vec<f32> = (first..first + 3 * rows).map(|number| number as f32).collect();
    Tensor::from_vec(numbers, (rows, 3), &Device::Cpu).unwrap()
}

#[test]
fn runs_come_to_their_places_and_leave_the_other_rows_alone() {
    let (x, cache) = (numbers(100, 2000), numbers(0, 3000));
    let expected = cache.force_contiguous().unwrap();
    // Not in the order of their places, next to each other, empty, and long enough for several threads.
    let runs = [(1990..1999, 20), (0..3, 5), (3..4, 8), (7..7, 9), (7..7, 20), (10..1900, 100), (1999..2000, 2999)];
    write(&x, &cache, &runs).unwrap();
    for (run, first) in &runs {
        if !run.is_empty() {
            expected.slice_set(&x.narrow(0, run.start, run.len()).unwrap(), 0, *first).unwrap();
        }
    }
    assert_eq!(cache.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
}

#[test]
fn a_part_of_a_larger_tensor_is_written_in_its_own_place() {
    let (x, all) = (numbers(100, 4), numbers(0, 6));
    let expected = all.force_contiguous().unwrap();
    write(&x.narrow(0, 1, 2).unwrap(), &all.narrow(0, 2, 3).unwrap(), &[(1..2, 0)]).unwrap();
    expected.slice_set(&x.narrow(0, 2, 1).unwrap(), 0, 2).unwrap();
    assert_eq!(all.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
}

#[test]
fn rows_are_copied_within_a_cache() {
    let cache = numbers(0, 6);
    copy(&cache, 1..3, 3).unwrap();
    let rows = |first: f32| vec![first, first + 1.0, first + 2.0];
    assert_eq!(cache.to_vec2::<f32>().unwrap(), [0.0, 3.0, 6.0, 3.0, 6.0, 15.0].map(rows));
    assert!(copy(&cache, 3..7, 0).is_err() && copy(&cache, 0..2, 5).is_err());
    assert!(copy(&Tensor::zeros((4, 3), DType::BF16, &Device::Cpu).unwrap(), 0..1, 1).is_err());
}

#[test]
fn runs_that_do_not_fit_are_refused() {
    let (x, cache) = (numbers(0, 4), numbers(0, 4));
    for runs in [vec![(0..2, 3)], vec![(0..2, 0), (2..4, 1)], vec![(3..5, 0)], vec![(0..1, 4)]] {
        assert!(write(&x, &cache, &runs).is_err(), "{runs:?}");
    }
    assert!(write(&x, &Tensor::zeros((4, 2), DType::F32, &Device::Cpu).unwrap(), &[(0..1, 0)]).is_err());
    assert!(write(&x, &Tensor::zeros((4, 3), DType::BF16, &Device::Cpu).unwrap(), &[(0..1, 0)]).is_err());
    assert!(write(&x, &numbers(0, 12).reshape((3, 12)).unwrap().t().unwrap(), &[(0..1, 0)]).is_err());
}
