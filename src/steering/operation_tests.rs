//! Tests of `operation`.

use half::bf16;

use super::*;

fn residual(dtype: DType) -> Tensor {
    let numbers: Vec<f32> = (0..15).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
    Tensor::from_vec(numbers, (3, 5), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn steering() -> (Vec<f32>, Steering) {
    let v: Vec<f32> = (0..5).map(|i| (i as f32 * 1.3).cos() * 0.3).collect();
    (v.clone(), Steering::new(&BTreeMap::from([(2, v)]), &Device::Cpu).unwrap())
}

fn steered(steering: &Steering, residual: &Tensor, rows: [f32; 3]) -> Vec<Vec<f32>> {
    let rows = Tensor::from_slice(&rows, (3, 1), &Device::Cpu).unwrap();
    let (_, v) = steering.vectors().next().unwrap();
    let steered = steering.apply(residual, v, &steering.factors(&rows).unwrap()).unwrap();
    assert_eq!(steered.dtype(), residual.dtype());
    steered.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
}

#[test]
fn the_sum_is_taken_in_f32_and_rounded_once() {
    let (v, steering) = steering();
    let residual = residual(DType::BF16);
    let before: Vec<Vec<f32>> = residual.to_dtype(DType::F32).unwrap().to_vec2().unwrap();
    let after = steered(&steering.with_factor(-1.7), &residual, [1.0, 0.0, 1.0]);
    for (row, factor) in [(0, -1.7f32), (1, 0.0), (2, -1.7)] {
        let expected: Vec<f32> = before[row].iter().zip(&v).map(|(x, v)| bf16::from_f32(x + factor * v).to_f32()).collect();
        assert_eq!(after[row], expected, "row {row}");
    }
}

#[test]
fn a_factor_on_all_vectors_and_factors_of_rows_give_the_same_bits() {
    let (_, steering) = steering();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let residual = residual(dtype);
        for factor in [0.1f32, -3.3, 1e-20, 7e4] {
            let by_all = steered(&steering.with_factor(factor), &residual, [1.0, 0.0, 1.0]);
            assert_eq!(by_all, steered(&steering, &residual, [factor, 0.0, factor]), "{dtype:?}, {factor}");
        }
    }
}

#[test]
fn rows_that_are_not_steered_keep_their_bits_however_large_the_factor() {
    let (_, steering) = steering();
    let residual = residual(DType::F32);
    let before: Vec<Vec<f32>> = residual.to_vec2().unwrap();
    assert_eq!(steered(&steering.with_factor(0.0), &residual, [1.0; 3]), before);
    let huge = Steering::new(&BTreeMap::from([(0, vec![f32::MAX; 5])]), &Device::Cpu).unwrap().with_factor(10.0);
    assert_eq!(steered(&huge, &residual, [0.0, 1.0, 0.0])[0], before[0]);
}

#[test]
fn the_lowest_layer_is_that_of_the_first_vector() {
    let vectors = BTreeMap::from([(7, vec![1.0; 2]), (3, vec![2.0; 2])]);
    let steering = Steering::new(&vectors, &Device::Cpu).unwrap();
    assert_eq!(steering.lowest(), Some(3));
    assert_eq!(steering.vectors().map(|(layer, _)| layer).collect::<Vec<_>>(), [3, 7]);
    assert_eq!(Steering::new(&BTreeMap::new(), &Device::Cpu).unwrap().lowest(), None);
}
