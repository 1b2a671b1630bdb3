//! Tests of `operation`.

use candle_core::Var;
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

/// By an operation, with the vector of these tests.
fn by(operation: Operation) -> (Vec<f32>, Steering) {
    let (v, _) = steering();
    (v.clone(), Steering::by(operation, &BTreeMap::from([(2, v)]), &Device::Cpu).unwrap())
}

/// Σ of a row's products with v, over ‖v‖, in f64.
fn along(row: &[f32], v: &[f32]) -> f64 {
    row.iter().zip(v).map(|(x, v)| f64::from(*x) * f64::from(*v)).sum::<f64>() / l2_norm(v)
}

#[test]
fn an_ablation_takes_the_share_along_the_vector_out_as_its_formula_has_it() {
    let residual = residual(DType::F32);
    let before: Vec<Vec<f32>> = residual.to_vec2().unwrap();
    let factors = [1.0f32, 0.0, 0.25];
    for operation in [Operation::Ablate, Operation::Null] {
        let (v, steering) = by(operation);
        assert!(before.iter().any(|row| along(row, &v) > 0.1) && before.iter().any(|row| along(row, &v) < -0.1));
        for (row, after) in steered(&steering, &residual, factors).iter().enumerate() {
            let along = along(&before[row], &v);
            let taken = if operation == Operation::Null { along.max(0.0) } else { along };
            for ((before, after), v_i) in before[row].iter().zip(after).zip(&v) {
                let expected = f64::from(*before) - f64::from(factors[row]) * taken * f64::from(*v_i) / l2_norm(&v);
                assert!((f64::from(*after) - expected).abs() < 1e-6, "{operation:?}, row {row}: {after} is not {expected}");
            }
        }
        let all = steered(&steering, &residual, [1.0; 3]);
        assert!(all.iter().all(|row| along(row, &v) < 1e-6));
        assert!(operation == Operation::Null || all.iter().all(|row| along(row, &v) > -1e-6));
    }
}

#[test]
fn an_ablation_does_not_depend_on_the_length_of_the_vector_and_one_by_factor_0_or_zeros_changes_no_bit() {
    let (v, ablation) = by(Operation::Ablate);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let residual = residual(dtype);
        let before: Vec<Vec<f32>> = residual.to_dtype(DType::F32).unwrap().to_vec2().unwrap();
        assert_eq!(steered(&ablation.with_factor(0.0), &residual, [1.0; 3]), before);
        assert_eq!(steered(&ablation, &residual, [0.0, 1.0, 0.0])[2], before[2]);
        for scale in [8.0f32, 0.125] {
            let scaled: Vec<f32> = v.iter().map(|x| x * scale).collect();
            let other = Steering::by(Operation::Ablate, &BTreeMap::from([(2, scaled)]), &Device::Cpu).unwrap();
            assert_eq!(steered(&other, &residual, [1.0; 3]), steered(&ablation, &residual, [1.0; 3]));
        }
        let zeros = Steering::by(Operation::Ablate, &BTreeMap::from([(2, vec![0.0; 5])]), &Device::Cpu).unwrap();
        assert_eq!(steered(&zeros, &residual, [1.0; 3]), before);
    }
}

/// Weights of a sum over what is steered, whose gradients the tests take.
fn weights() -> Tensor {
    let numbers: Vec<f32> = (0..15).map(|i| (i as f32 * 2.1).cos()).collect();
    Tensor::from_vec(numbers, (3, 5), &Device::Cpu).unwrap()
}

const ROWS: [f32; 3] = [1.0, 0.0, 0.7];
const FACTOR: f32 = -1.3;

/// Gradients of that sum at v and at the residual, by the operation's own vjp.
fn gradients(operation: Operation) -> [Vec<f32>; 2] {
    let steering = by(operation).1.with_factor(FACTOR);
    let rows = Tensor::from_slice(&ROWS, (3, 1), &Device::Cpu).unwrap();
    let (dv, dh) = steering.vjp(0, &rows, &residual(DType::F32), &weights()).unwrap();
    let dv = (dv * f64::from(FACTOR)).unwrap();
    [dv, dh].map(|gradient| gradient.flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn the_gradients_of_every_operation_agree_with_finite_differences() {
    let sum = |operation, v: &[f32], h: &[f32]| -> f64 {
        let steering = Steering::by(operation, &BTreeMap::from([(2, v.to_vec())]), &Device::Cpu).unwrap().with_factor(FACTOR);
        let h = Tensor::from_slice(h, (3, 5), &Device::Cpu).unwrap();
        let weights: Vec<f32> = weights().flatten_all().unwrap().to_vec1().unwrap();
        let steered = steered(&steering, &h, ROWS).concat();
        steered.iter().zip(&weights).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
    };
    let v = steering().0;
    let h: Vec<f32> = residual(DType::F32).flatten_all().unwrap().to_vec1().unwrap();
    for operation in [Operation::Add, Operation::Ablate, Operation::Null] {
        let shifted = |by: [f32; 2], at: usize| {
            let (mut v, mut h) = (v.clone(), h.clone());
            v[at % 5] += by[0];
            h[at] += by[1];
            sum(operation, &v, &h)
        };
        let [dv, dh] = gradients(operation);
        for (at, analytic) in dh.iter().enumerate() {
            let by_h = (shifted([0.0, 1e-2], at) - shifted([0.0, -1e-2], at)) / 2e-2;
            assert!((by_h - f64::from(*analytic)).abs() < 1e-3, "{operation:?}, residual {at}: {by_h}, {analytic}");
        }
        for (at, analytic) in dv.iter().enumerate() {
            let by_v = (shifted([2e-3, 0.0], at) - shifted([-2e-3, 0.0], at)) / 4e-3;
            assert!((by_v - f64::from(*analytic)).abs() < 3e-3, "{operation:?}, vector {at}: {by_v}, {analytic}");
        }
    }
}

#[test]
fn the_gradients_of_every_operation_are_those_of_automatic_differentiation() {
    let v = Var::from_slice(&steering().0, (1, 5), &Device::Cpu).unwrap();
    let h = Var::from_tensor(&residual(DType::F32)).unwrap();
    let factors = (Tensor::from_slice(&ROWS, (3, 1), &Device::Cpu).unwrap() * f64::from(FACTOR)).unwrap();
    for operation in [Operation::Add, Operation::Ablate, Operation::Null] {
        let along = h.matmul(&v.t().unwrap()).unwrap();
        let square = v.sqr().unwrap().sum_all().unwrap();
        let taken = |along: Tensor| {
            let part = along.broadcast_div(&square).unwrap().mul(&factors).unwrap();
            (h.as_tensor() - part.matmul(&v).unwrap()).unwrap()
        };
        let steered = match operation {
            Operation::Add => (h.as_tensor() + factors.matmul(&v).unwrap()).unwrap(),
            Operation::Ablate => taken(along),
            Operation::Null => taken(along.relu().unwrap()),
        };
        let by_tape = (steered * weights()).unwrap().sum_all().unwrap().backward().unwrap();
        for (ours, theirs) in gradients(operation).iter().zip([by_tape.get(&v).unwrap(), by_tape.get(&h).unwrap()]) {
            let theirs: Vec<f32> = theirs.flatten_all().unwrap().to_vec1().unwrap();
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5, "{operation:?}: {ours:?} are not {theirs:?}");
        }
    }
}

#[test]
fn the_dose_of_an_ablation_is_the_share_of_the_residual_along_the_vector() {
    let residual = Tensor::new(&[[3.0f32, 4.0], [0.0, 2.0], [-5.0, 0.0], [0.0, 0.0]], &Device::Cpu).unwrap();
    let doses = |operation, v: [f32; 2]| -> Vec<f64> {
        let steering = Steering::by(operation, &BTreeMap::from([(1, v.to_vec())]), &Device::Cpu).unwrap();
        let divisors = steering.dose_divisors(&residual).unwrap();
        divisors
            .into_iter()
            .take(3)
            .map(|divisor| super::super::dose::dose(0.5, steering.lowest_norm(), divisor.into()))
            .collect()
    };
    let near = |found: Vec<f64>, expected: [f64; 3]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(doses(Operation::Ablate, [10.0, 0.0]), [0.3, 0.0, 0.5]));
    assert!(near(doses(Operation::Null, [10.0, 0.0]), [0.3, 0.0, 0.0]));
    assert!(near(doses(Operation::Ablate, [0.0, 0.0]), [0.0; 3]));
    assert!(near(doses(Operation::Add, [10.0, 0.0]), [1.0, 2.5, 1.0]));
}
