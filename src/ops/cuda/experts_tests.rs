//! The kernels of a mixture of experts, run on the CPU from their own source, against plain loops and against the body that is
//! composed of other ops: experts without a row, with one and with more than a tile; one expert a row, two, and all.

use std::cell::RefCell;

use candle_core::{DType, Device};

use super::super::call::Call;
use super::super::emulated;
use super::super::emulator::Emulator;
use super::super::tests::{TYPES, assert_within, random, rounding, wide};
use super::*;
use crate::ops::experts::{ExpertMlps, ExpertsSaved as Saved};
use crate::ops::gated::Activation;
use crate::ops::gated_mlp::GatedMlp;
use crate::ops::linear::{Linear, Products};
use crate::ops::weight::Weight;

const CPU: Device = Device::Cpu;
const EXPERTS: usize = 5;
/// More than the kernels' tiles have.
const ROWS: usize = 70;

fn choice(per_token: usize, normalised: bool) -> ExpertChoice {
    ExpertChoice { per_token, normalised }
}

/// Logits by which all rows but one go to expert 3 first and that one to expert 1, then to any of 0, 1 and 3; none goes to 2 or 4
/// where it need not.
fn logits(dtype: DType) -> Tensor {
    let mut numbers = random(9, &[ROWS, EXPERTS], DType::F32).to_vec2::<f32>().unwrap();
    for (row, numbers) in numbers.iter_mut().enumerate() {
        numbers[if row == 37 { 1 } else { 3 }] += 3.0;
        numbers[2] -= 3.0;
        numbers[4] -= 4.0;
    }
    Tensor::new(numbers, &CPU).unwrap().to_dtype(dtype).unwrap()
}

fn routes(logits: &Tensor, choice: ExpertChoice) -> DeviceRoutes {
    route(&Emulator, logits, choice).unwrap()
}

/// The expert of each choice, by its definition.
fn chosen(logits: &Tensor, per_token: usize) -> Vec<u32> {
    let of_row = |logits: Vec<f32>| {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize])); // stable
        order.truncate(per_token);
        order
    };
    wide(logits).to_vec2::<f32>().unwrap().into_iter().flat_map(of_row).collect()
}

fn numbers(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn rows_go_to_their_likeliest_experts_and_are_sorted_by_them() {
    for dtype in TYPES {
        let mut of_rows = wide(&logits(dtype)).to_vec2::<f32>().unwrap();
        of_rows[5] = vec![0.5, 2.0, 2.0, 0.5, 2.0]; // of equal ones the first
        let logits = Tensor::new(of_rows, &CPU).unwrap().to_dtype(dtype).unwrap();
        for (per_token, normalised) in [(1, true), (1, false), (2, true), (2, false), (EXPERTS, true)] {
            let routes = routes(&logits, choice(per_token, normalised));
            let expected = chosen(&logits, per_token);
            assert_eq!(numbers(&routes.chosen), expected, "{dtype:?} {per_token}");
            let softmax = candle_nn::ops::softmax(&wide(&logits), 1).unwrap();
            assert_within(&routes.probabilities, &softmax, 0.0, 1e-6, "probabilities");
            let index = Tensor::from_vec(expected.clone(), (ROWS, per_token), &CPU).unwrap();
            let mut weights = softmax.gather(&index, 1).unwrap();
            if normalised {
                weights = weights.broadcast_div(&weights.sum_keepdim(1).unwrap()).unwrap();
            }
            assert_within(&routes.weights, &weights, 0.0, 1e-6, "weights");
            let mut order: Vec<u32> = (0..expected.len() as u32).collect();
            order.sort_by_key(|at| expected[*at as usize]); // stable
            assert_eq!(numbers(&routes.order), order);
            let positions = numbers(&routes.positions);
            assert!(order.iter().enumerate().all(|(at, of)| positions[*of as usize] == at as u32));
            let before = |expert: u32| expected.iter().filter(|of| **of < expert).count() as u32;
            assert_eq!(numbers(&routes.starts), (0..=EXPERTS as u32).map(before).collect::<Vec<_>>());
        }
    }
}

#[test]
fn logits_that_are_no_numbers_still_choose_different_experts() {
    let logits = Tensor::new(&[[f32::NAN, 1.0, 2.0, f32::NAN], [f32::INFINITY; 4]], &CPU).unwrap();
    let routes = routes(&logits, choice(3, true));
    for row in numbers(&routes.chosen).chunks(3) {
        assert!(row.iter().all(|expert| *expert < 4) && row[0] != row[1] && row[1] != row[2] && row[0] != row[2], "{row:?}");
    }
}

/// The rows of `x` of each choice in the order of the sorted ones, and each one's expert.
fn sorted(x: &Tensor, routes: &DeviceRoutes, per_token: usize) -> Vec<(Tensor, usize)> {
    let chosen = numbers(&routes.chosen);
    let row = |choice: u32| (x.narrow(0, choice as usize / per_token, 1).unwrap(), chosen[choice as usize] as usize);
    numbers(&routes.order).into_iter().map(row).collect()
}

#[test]
fn grouped_products_are_those_of_each_row_with_its_experts_matrix() {
    for dtype in TYPES {
        for per_token in [1, 2, EXPERTS] {
            let routes = routes(&logits(dtype), choice(per_token, true));
            // Longer and shorter than a step, a multiple of eight elements and not; more and fewer columns than a tile has.
            for (outputs, inputs) in [(136, 40), (33, 70), (7, 16)] {
                let what = format!("{dtype:?}, {per_token} experts a row, ({outputs}, {inputs})");
                let weight = random(1, &[EXPERTS, outputs, inputs], dtype);
                let matrix = |expert: usize| wide(&weight.get(expert).unwrap());
                let (x, dy) = (random(2, &[ROWS, inputs], dtype), random(3, &[ROWS, outputs], dtype));
                let all = |rows: Vec<(Tensor, usize)>, times: &dyn Fn(&Tensor, usize) -> Tensor| {
                    let products: Vec<Tensor> = rows.iter().map(|(row, expert)| times(&wide(row), *expert)).collect();
                    let rows: Vec<Tensor> = rows.into_iter().map(|(row, _)| row).collect();
                    (Tensor::cat(&products, 0).unwrap(), Tensor::cat(&rows, 0).unwrap())
                };
                let times = |row: &Tensor, expert: usize| row.matmul(&matrix(expert).t().unwrap()).unwrap();
                let (expected, sorted_x) = all(sorted(&x, &routes, per_token), &times);
                for left in [(&x, GroupedRows::OfPass), (&sorted_x, GroupedRows::Sorted)] {
                    assert_within(&product(&Emulator, left, &weight, &routes).unwrap(), &expected, 1.0, 1e-5, &what);
                }
                let times = |row: &Tensor, expert: usize| row.matmul(&matrix(expert)).unwrap();
                let (expected, sorted_dy) = all(sorted(&dy, &routes, per_token), &times);
                for left in [(&dy, GroupedRows::OfPass), (&sorted_dy, GroupedRows::Sorted)] {
                    assert_within(&product_vjp(&Emulator, left, &weight, &routes).unwrap(), &expected, 1.0, 1e-5, &what);
                }
            }
        }
    }
}

/// Experts of random weights that are rounded to each of `dtypes` in turn; they have the last of these.
fn experts([hidden, inner]: [usize; 2], of: ExpertChoice, activation: Activation, dtypes: [DType; 2]) -> ExpertMlps {
    let matrix = |seed: u64, dims: &[usize]| {
        let weight = (random(seed, dims, DType::F32) / (dims[1] as f64).sqrt()).unwrap();
        Linear { weight: Weight::Tensor(dtypes.iter().fold(weight, |x, dtype| x.to_dtype(*dtype).unwrap())), bias: None }
    };
    let mlp = |index: u64| GatedMlp {
        gate_up_proj: matrix(20 + index, &[2 * inner, hidden]),
        down_proj: matrix(40 + index, &[hidden, inner]),
        activation,
    };
    ExpertMlps::new(of, (0..EXPERTS).map(|index| Ok(mlp(index as u64)))).unwrap()
}

#[test]
fn a_mixture_and_its_gradient_are_those_of_the_composed_body() {
    let all = [choice(1, true), choice(1, false), choice(2, true), choice(2, false), choice(EXPERTS, true)];
    for dtype in TYPES {
        // Rows of whole parts of 16 bytes, and others.
        all.iter().for_each(|of| check_mixture([48, 40], *of, Activation::Silu, dtype));
        all[2..].iter().for_each(|of| check_mixture([33, 21], *of, Activation::GeluTanh, dtype));
    }
}

fn check_mixture(sizes: [usize; 2], of: ExpertChoice, activation: Activation, dtype: DType) {
    let what = format!("{dtype:?} {sizes:?} {of:?}");
    let [ours, exact] = [[dtype; 2], [dtype, DType::F32]].map(|dtypes| experts(sizes, of, activation, dtypes));
    let [x, dy, onto] = [1, 2, 3].map(|seed| random(seed, &[ROWS, sizes[0]], dtype));
    let (logits, products) = (logits(dtype), Products::Fastest);
    // Gate and up, their product and what each expert gives are rounded on the way.
    let of_largest = 1e-5 + 2.0 * rounding(dtype);
    let added = emulated(|| ours.forward(&x, &logits, Some(&onto), products)).unwrap().0;
    let expected = exact.forward(&wide(&x), &wide(&logits), Some(&wide(&onto)), products).unwrap().0;
    assert_within(&added, &expected, 1.0, of_largest, &format!("{what}, added"));
    let (y, saved) = emulated(|| ours.forward(&x, &logits, None, products)).unwrap();
    let (expected, exactly) = exact.forward(&wide(&x), &wide(&logits), None, products).unwrap();
    assert!(matches!((&saved, &exactly), (Saved::Grouped(_), Saved::Composed(_))), "{what}");
    assert_within(&y, &expected, 1.0, of_largest, &what);
    let (dx, d_logits) = emulated(|| ours.vjp(&saved, &dy)).unwrap();
    let (expected_x, expected_logits) = exact.vjp(&exactly, &wide(&dy)).unwrap();
    assert_within(&dx, &expected_x, 1.0, of_largest, &format!("dx of {what}"));
    // A single weight that is divided by itself is 1, whatever the logits: what differs from 0 is the probability's rounding.
    let largest = |x: &Tensor| wide(x).abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    if of == choice(1, true) {
        assert!(largest(&d_logits) < 1e-5 && largest(&expected_logits) < 1e-5, "d logits of {what}");
    } else {
        assert_within(&d_logits, &expected_logits, 1.0, of_largest, &format!("d logits of {what}"));
    }
}

#[test]
fn a_mixture_of_no_rows_gives_no_rows() {
    let mixture = experts([16, 8], choice(2, true), Activation::Silu, [DType::BF16; 2]);
    let [x, logits] = [16, EXPERTS].map(|width| Tensor::zeros((0, width), DType::BF16, &CPU).unwrap());
    let (y, saved) = emulated(|| mixture.forward(&x, &logits, None, Products::Fastest)).unwrap();
    assert_eq!(y.dims(), [0, 16]);
    assert_eq!(emulated(|| mixture.vjp(&saved, &x)).unwrap().0.dims(), [0, 16]);
}

/// Runs launches and keeps their names.
#[derive(Default)]
struct Recorder(RefCell<Vec<String>>);

impl Launcher for Recorder {
    fn launch(&self, call: &Call, device: &Device) -> Result<Vec<Tensor>> {
        self.0.borrow_mut().push(call.name.clone());
        Emulator.launch(call, device)
    }

    fn multiply(&self, x: &Tensor, weight: &Tensor, onto: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
        Emulator.multiply(x, weight, onto, dtype)
    }
}

#[test]
fn a_mixture_takes_as_many_launches_whatever_its_experts() {
    for count in [1, 9] {
        let stack = ExpertStack {
            gate_up_proj: random(1, &[count, 16, 8], DType::F32),
            down_proj: random(2, &[count, 8, 8], DType::F32),
            activation: Activation::Silu,
        };
        let (x, logits, launcher) = (random(3, &[4, 8], DType::F32), random(4, &[4, count], DType::F32), Recorder::default());
        let (y, saved) = forward((&launcher, choice(1, false)), &stack, &x, &logits, None).unwrap();
        let expected = ["route", "sort_choices", "grouped_product", "gated_silu", "grouped_product", "combine"];
        assert_eq!(launcher.0.take(), expected);
        assert_eq!(saved.gate_up.dims(), [4, 16]);
        vjp((&launcher, choice(1, false)), &stack, &saved, &y).unwrap();
        let expected = ["grouped_product_vjp", "gated_silu_weighted_vjp", "grouped_product_vjp", "route_vjp", "combine"];
        assert_eq!(launcher.0.take(), expected);
    }
}

#[test]
fn a_product_refuses_rows_that_are_not_those_of_the_pass() {
    let routes = routes(&logits(DType::F32), choice(2, true));
    let weight = random(1, &[EXPERTS, 7, 16], DType::F32);
    let of = |rows: usize, width: usize, left: GroupedRows, weight: &Tensor| {
        product(&Emulator, (&random(2, &[rows, width], DType::F32), left), weight, &routes)
    };
    assert_eq!(of(ROWS, 16, GroupedRows::OfPass, &weight).unwrap().dims(), [2 * ROWS, 7]);
    assert!(of(ROWS, 16, GroupedRows::Sorted, &weight).is_err(), "one row for each choice");
    assert!(of(ROWS - 1, 16, GroupedRows::OfPass, &weight).is_err(), "one row for each of the pass");
    assert!(of(ROWS, 15, GroupedRows::OfPass, &weight).is_err(), "of the matrix's width");
    assert!(of(ROWS, 16, GroupedRows::OfPass, &weight.narrow(0, 0, 4).unwrap()).is_err(), "a matrix for each expert");
}
