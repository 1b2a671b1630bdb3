//! Every kernel, run on the CPU from its own source, against the ops of the CPU in f32: all element types, sizes that no
//! tile divides, every shape of pass. The launches are those that CUDA gets.

use candle_core::{D, DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::linear::product;
use super::{Argument, Call, Element, Module, emulated, launcher};
use crate::Result;
use crate::model::layout::{Branches, Continuation, Layout};
use crate::ops::attention::{AttentionShape, Gradients, Segment, Segments};
use crate::ops::gated::{self, Activation};
use crate::ops::head::{Gradient, Head, Prediction, Predictions};
use crate::ops::norm::RmsNorm;
use crate::ops::rope::{self, Angles, Rope, RopeParameters};
use crate::ops::rows::RowSet;

const CPU: Device = Device::Cpu;
pub(super) const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Numbers in −1..1 that `dtype` holds exactly.
pub(super) fn random(seed: u64, dims: &[usize], dtype: DType) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..dims.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, dims, &CPU).unwrap().to_dtype(dtype).unwrap()
}

pub(super) fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap()
}

/// Half a unit in the last place, relative.
pub(super) fn rounding(dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => 1.0 / 256.0,
        DType::F16 => 1.0 / 2048.0,
        _ => 0.0,
    }
}

/// Each element within `roundings` of its type, and 1e-5 of the largest for the order of f32 sums.
fn assert_close(kernel: &Tensor, expected: &Tensor, roundings: f32, what: &str) {
    assert_within(kernel, expected, roundings, 1e-5, what);
}

/// The same of sums of products of which one factor is rounded to the type before: signs differ, so that a sum of many is
/// off by less than one rounding of the largest.
fn assert_close_after_rounding(kernel: &Tensor, expected: &Tensor, what: &str) {
    assert_within(kernel, expected, 1.0, 1e-5 + rounding(kernel.dtype()), what);
}

/// Each element within `roundings` of its type, and `of_largest` of the largest.
pub(super) fn assert_within(kernel: &Tensor, expected: &Tensor, roundings: f32, of_largest: f32, what: &str) {
    assert_eq!(kernel.dims(), expected.dims(), "{what}");
    let values = |x: &Tensor| wide(x).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (values(kernel), values(expected));
    let largest = theirs.iter().fold(0f32, |most, x| most.max(x.abs()));
    let roundings = 1.01 * roundings * rounding(kernel.dtype());
    for (at, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() <= roundings * b.abs() + of_largest * largest, "{what}, element {at}: {a} is not {b}");
    }
}

fn plain_norm(weight: &Tensor) -> RmsNorm {
    RmsNorm { weight: weight.clone(), eps: 1e-5, offset: 0.0 }
}

#[test]
fn the_norm_is_that_of_the_cpu() {
    for dtype in TYPES {
        for (rows, width) in [(1, 8), (3, 33), (2, 300), (3, 1030)] {
            let of = |seed| random(seed, &[rows, width], dtype);
            let (x, w, dy, residual) = (of(1), random(2, &[width], dtype), of(3), of(4));
            let (xf, dyf, residual_f) = (wide(&x), wide(&dy), wide(&residual));
            // With an offset the result is rounded once.
            for (offset, roundings) in [(0.0, 2.0), (1.0, 1.0)] {
                let what = format!("norm {dtype:?} {rows}x{width}, offset {offset}");
                let [norm, exact] = [w.clone(), wide(&w)].map(|weight| RmsNorm { weight, eps: 1e-5, offset });
                let y = emulated(|| norm.forward(&x)).unwrap();
                assert_close(&y, &exact.forward(&xf).unwrap(), roundings, &what);
                let dx = emulated(|| norm.vjp(&x, &dy)).unwrap();
                assert_close(&dx, &exact.vjp(&xf, &dyf).unwrap(), 1.0, &what);
                let onto = emulated(|| norm.vjp_onto(&residual, &x, &dy)).unwrap();
                assert_close(&onto, &exact.vjp_onto(&residual_f, &xf, &dyf).unwrap(), 1.0, &what);
            }
        }
    }
}

#[test]
fn a_row_whose_squares_are_beyond_f32_has_no_norm() {
    for dtype in [DType::F32, DType::BF16] {
        let (x, w) = ((random(1, &[2, 33], dtype) * 1e30).unwrap(), random(2, &[33], dtype));
        for y in [emulated(|| plain_norm(&w).forward(&x)), emulated(|| plain_norm(&w).vjp(&x, &x))] {
            assert!(wide(&y.unwrap()).flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|y| y.is_nan()), "{dtype:?}");
        }
    }
}

#[test]
fn gated_activations_are_those_of_the_cpu() {
    for (activation, dtype) in [Activation::Silu, Activation::GeluTanh].into_iter().flat_map(|a| TYPES.map(|dtype| (a, dtype)))
    {
        for (rows, width) in [(1, 4), (3, 33), (2, 1029)] {
            let x = (random(1, &[rows, 2 * width], dtype) * 12.0).unwrap();
            let (dy, what) = (random(2, &[rows, width], dtype), format!("{activation:?} {dtype:?} {rows}x{width}"));
            let y = emulated(|| gated::forward(&x, activation)).unwrap();
            assert_close(&y, &gated::forward(&wide(&x), activation).unwrap(), 1.0, &what);
            let dx = emulated(|| gated::vjp(&x, &dy, activation)).unwrap();
            assert_close(&dx, &gated::vjp(&wide(&x), &wide(&dy), activation).unwrap(), 1.0, &what);
        }
        // Where e^−x is beyond f32.
        let far = Tensor::new(&[[-120f32, 120.0, 2.0, 3.0]], &CPU).unwrap().to_dtype(dtype).unwrap();
        let y = emulated(|| gated::forward(&far, activation)).unwrap();
        assert_eq!(wide(&y).to_vec2::<f32>().unwrap(), [[0.0, 360.0]]);
    }
}

#[test]
fn rope_is_that_of_the_cpu() {
    for dtype in TYPES {
        for (dim, heads) in [(6, 3), (64, 2), (80, 5)] {
            let rope = Rope::new(dim, &RopeParameters::plain(1e4, dim));
            let angles = Angles::new(&rope, &[0, 7, 300], &[301; 3], &CPU).unwrap();
            let x = random(1, &[3, (heads + 2) * dim], dtype);
            for columns in [0..heads * dim, dim..(heads + 1) * dim] {
                let y = emulated(|| rope::forward_columns(&x, columns.clone(), &angles)).unwrap();
                let expected = rope::forward_columns(&wide(&x), columns, &angles).unwrap();
                assert_close(&y, &expected, 1.0, &format!("rope {dtype:?} of {heads} heads of {dim}"));
            }
        }
    }
}

#[test]
fn rows_of_queries_keys_and_values_are_taken_apart_and_joined() {
    for dtype in TYPES {
        for (dim, heads, kv_heads) in [(6, 3, 1), (128, 4, 2)] {
            let rope = Rope::new(dim, &RopeParameters::plain(1e4, dim));
            let angles = Angles::new(&rope, &[0, 7, 300], &[301; 3], &CPU).unwrap();
            let widths = [heads * dim, kv_heads * dim];
            let x = random(1, &[3, widths[0] + 2 * widths[1]], dtype);
            let rows = RowSet::new(&[0, 2], 3, &CPU).unwrap();
            let of_rows = angles.select(&rows).unwrap();
            for selected in [None, Some((&rows, &of_rows))] {
                let ours = emulated(|| rope::split(&x, widths, &angles, selected)).unwrap();
                let theirs = rope::split(&wide(&x), widths, &angles, selected).unwrap();
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    assert_close(ours, theirs, 1.0, "split");
                }
                let joined = emulated(|| rope::join(ours.each_ref(), &angles, selected)).unwrap();
                let ours = ours.each_ref().map(wide);
                assert_close(&joined, &rope::join(ours.each_ref(), &angles, selected).unwrap(), 1.0, "join");
            }
        }
    }
}

#[test]
fn rows_are_taken_out_and_put_back_as_on_the_cpu() {
    for dtype in TYPES {
        for (chosen, all, width) in [(vec![4, 1], 5, 33), (vec![0], 1, 8), (vec![2, 0, 1], 3, 600)] {
            let (x, rows) = (random(1, &[all, width], dtype), RowSet::new(&chosen, all, &CPU).unwrap());
            let numbers = |x: Tensor| wide(&x).to_vec2::<f32>().unwrap();
            let taken = emulated(|| rows.take(&x)).unwrap();
            let back = emulated(|| rows.put_back(&taken)).unwrap();
            let all_numbers = numbers(x.clone());
            let expected = (0..all).map(|row| if chosen.contains(&row) { all_numbers[row].clone() } else { vec![0.0; width] });
            assert_eq!(numbers(back), expected.collect::<Vec<_>>());
            assert_eq!(numbers(rows.take(&x).unwrap()), numbers(taken.clone()));
            assert_eq!(numbers(rows.put_back(&taken).unwrap()), numbers(emulated(|| rows.put_back(&taken)).unwrap()));
        }
    }
}

#[test]
fn log_probs_and_their_gradient_are_those_of_the_cpu() {
    let (rows, hidden, vocab) = (5, 36, 1300);
    // Rows with no, one and several predictions; the first and the last token.
    let list = [(0, 1299), (0, 7), (1, 1299), (3, 7), (3, 640), (4, 0)].map(|(row, target)| Prediction { row, target });
    let of = |list: &[Prediction]| Predictions::new(list.to_vec(), rows, &CPU).unwrap();
    let (predictions, tabled, none_tabled) = (of(&list), emulated(|| of(&list)), emulated(|| of(&[])));
    let gradients = Tensor::new(&[-2f32, 0.5, -1.0, 1.0, 3.0, 0.25], &CPU).unwrap();
    let numbers = |x: &Tensor| x.to_vec1::<f32>().unwrap();
    for (softcap, dtype) in [None, Some(3.0)].into_iter().flat_map(|softcap| TYPES.map(|dtype| (softcap, dtype))) {
        let (h, w) = ((random(1, &[rows, hidden], dtype) * 4.0).unwrap(), random(2, &[vocab, hidden], dtype));
        let [head, exact] = [w.clone(), wide(&w)].map(|weight| Head { weight: weight.into(), softcap });
        let ours = emulated(|| head.forward(&h, &tabled, Gradient::Wanted)).unwrap();
        let theirs = exact.forward(&wide(&h), &predictions, Gradient::Wanted).unwrap();
        for (a, b) in numbers(&ours.log_probs).into_iter().zip(numbers(&theirs.log_probs)) {
            assert!((a - b).abs() < 2e-5 * b.abs(), "{dtype:?}: {a} is not {b}");
        }
        let dh = emulated(|| head.vjp(&ours, &tabled, &gradients, dtype)).unwrap();
        let expected = exact.vjp(&theirs, &predictions, &gradients, DType::F32).unwrap();
        let distance = (wide(&dh) - &expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        // Numbers up to 8; the probabilities and the expected row below 1, weighted by up to 4, are rounded too.
        assert!(distance < 16.0 * rounding(dtype) + 2e-5, "{dtype:?}: off by {distance}");
        let alone = emulated(|| head.forward(&h, &tabled, Gradient::NotWanted)).unwrap();
        assert_eq!(numbers(&alone.log_probs), numbers(&ours.log_probs));
        assert!(emulated(|| head.vjp(&alone, &tabled, &gradients, dtype)).is_err());
        let none = emulated(|| head.forward(&h, &none_tabled, Gradient::Wanted)).unwrap();
        assert!(numbers(&none.log_probs).is_empty());
        let zero = emulated(|| head.vjp(&none, &none_tabled, &none.log_probs, dtype)).unwrap();
        assert_eq!(wide(&zero).abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        let beyond = [Prediction { row: 0, target: vocab as u32 }];
        assert!(emulated(|| head.forward(&h, &of(&beyond), Gradient::NotWanted)).is_err());
    }
}

#[test]
fn log_softmax_of_given_logits_is_exact_and_leaves_probabilities() {
    for dtype in TYPES {
        let logits = (random(1, &[3, 777], DType::F32) * 30.0).unwrap();
        let expected = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
        let out = Tensor::zeros(2, DType::F32, &CPU).unwrap();
        // A chunk of the rows from 5 on, of a pass whose rows 5 and 7 have a prediction.
        let starts = Tensor::new(&[0u32, 0, 0, 0, 0, 0, 1, 1, 2], &CPU).unwrap();
        let targets = Tensor::new(&[776u32, 3], &CPU).unwrap();
        let arguments = vec![
            Argument::Read(&logits, Element::F32),
            Argument::Read(&starts, Element::U32),
            Argument::Read(&targets, Element::U32),
            Argument::Update(&out, Element::F32),
            Argument::output((3, 777)),
            Argument::size(777).unwrap(),
            Argument::size(5).unwrap(),
            Argument::U32(1),
        ];
        let call = Call { dtype, ..Call::by_row(Module::Head, "log_probs", &logits, [3, 777]) }.with(arguments);
        let probabilities = emulated(|| call.launch_for_one(launcher(&CPU).unwrap())).unwrap();
        let log_p = expected.to_vec2::<f32>().unwrap();
        for (ours, theirs) in out.to_vec1::<f32>().unwrap().into_iter().zip([log_p[0][776], log_p[2][3]]) {
            assert!((ours - theirs).abs() < 2e-5, "{dtype:?}: {ours} is not {theirs}");
        }
        assert_close(&probabilities, &expected.exp().unwrap(), 1.0, "probabilities");
    }
}

/// What a pass is made of.
struct Pass {
    segments: Vec<Segment>,
    queries: usize,
    keys: usize,
}

/// Runs longer and shorter than any tile, branches behind a common prefix, a sequence by itself.
fn branches_and_a_sequence() -> Layout {
    let mut layout = Layout::default();
    let all_branches = [Branches { shared: 45, first: 33, second: 9 }, Branches { shared: 7, first: 1, second: 0 }];
    layout.push_all_branches(5, &all_branches);
    layout.push_sequence(2);
    layout
}

fn passes() -> [(&'static str, Pass); 2] {
    let layout = branches_and_a_sequence();
    let rows = layout.rows();
    let whole = Pass { segments: layout.segments.clone(), queries: rows, keys: rows };
    // The last rows of some runs alone, none of others.
    let (segments, wanted) = layout.select(&[49, 50, 51, 52, 53, 80, 81, 90]);
    let selected = Pass { segments, queries: wanted.len(), keys: rows };
    [("branches", whole), ("selected rows", selected)]
}

fn inputs(shape: &AttentionShape, pass: &Pass, dtype: DType) -> [Tensor; 4] {
    let (q_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let q = (random(1, &[pass.queries, q_width], dtype) * 4.0).unwrap();
    let (k, v) = (random(2, &[pass.keys, kv_width], dtype), random(3, &[pass.keys, kv_width], dtype));
    [q, k, v, random(4, &[pass.queries, q_width], dtype)]
}

fn gradients_of(shape: &AttentionShape, [q, k, v, dy]: &[Tensor; 4], pass: &Pass) -> Result<Gradients> {
    shape.vjp(q, k, v, &Segments::new(pass.segments.clone(), pass.keys, &CPU)?, dy)
}

/// Attention with the usual scale.
fn plain(heads: usize, kv_heads: usize, head_dim: usize, sliding_window: Option<usize>) -> AttentionShape {
    let scale = 1.0 / (head_dim as f64).sqrt();
    AttentionShape { heads, kv_heads, head_dim, sliding_window, scale, softcap: None }
}

/// The same with a scale of its own and soft-capped scores.
fn capped(shape: &AttentionShape) -> AttentionShape {
    AttentionShape { scale: 0.4, softcap: Some(2.0), ..shape.clone() }
}

fn check_attention(shape: &AttentionShape, pass: &Pass, dtype: DType, what: &str) {
    let what = format!("{what}: {dtype:?}, {shape:?}");
    let inputs = inputs(shape, pass, dtype);
    let exact = inputs.each_ref().map(wide);
    let forward = |[q, k, v, _]: &[Tensor; 4]| {
        shape.forward(q, k, v, &Segments::new(pass.segments.clone(), pass.keys, &CPU).unwrap()).unwrap()
    };
    assert_close_after_rounding(&emulated(|| forward(&inputs)), &forward(&exact), &what);
    let ours = emulated(|| gradients_of(shape, &inputs, pass)).unwrap();
    let theirs = gradients_of(shape, &exact, pass).unwrap();
    assert_close_after_rounding(&ours.q, &theirs.q, &format!("dq of {what}"));
    assert_close_after_rounding(&ours.k, &theirs.k, &format!("dk of {what}"));
    assert_close_after_rounding(&ours.v, &theirs.v, &format!("dv of {what}"));
}

#[test]
fn attention_is_that_of_the_cpu_for_every_pass_group_and_window() {
    for (what, pass) in passes() {
        for (heads, kv_heads, head_dim) in [(2, 2, 32), (6, 2, 6), (3, 1, 64)] {
            for sliding_window in [None, Some(1), Some(11)] {
                for dtype in TYPES {
                    check_attention(&plain(heads, kv_heads, head_dim, sliding_window), &pass, dtype, what);
                }
            }
        }
    }
}

#[test]
fn attention_is_that_of_the_cpu_for_every_head_dimension_and_type() {
    for dtype in TYPES {
        for head_dim in [32, 64, 80, 128, 132, 256] {
            let shape = plain(3, 1, head_dim, Some(40));
            for (what, pass) in passes() {
                check_attention(&shape, &pass, dtype, what);
            }
            let [_, (what, pass)] = passes();
            check_attention(&capped(&shape), &pass, dtype, what);
        }
    }
}

/// Equally long runs of sequences that start at these rows of a cache.
fn continuations(starts: &[usize], past: usize, new: usize) -> Vec<Continuation> {
    starts.iter().map(|start| Continuation { start: *start, past, new, length: past + new }).collect()
}

#[test]
fn attention_to_a_cache_is_that_of_the_cpu() {
    for dtype in TYPES {
        for (heads, kv_heads, head_dim) in [(3, 3, 64), (8, 2, 128), (12, 1, 32), (2, 1, 256)] {
            for (past, tokens) in [(0, 1), (40, 1), (3, 20)] {
                // Three branches of which the second has ended.
                let layout = Layout::continuing(&continuations(&[0, 140], past, tokens));
                let pass = Pass { segments: layout.segments.clone(), queries: layout.rows(), keys: 210 };
                let shape = plain(heads, kv_heads, head_dim, None);
                let [q, k, v, dy] = inputs(&shape, &pass, dtype);
                for shape in [shape.clone(), capped(&shape)] {
                    let forward = |q: &Tensor, k: &Tensor, v: &Tensor| {
                        let segments = Segments::new(pass.segments.clone(), layout.rows(), &CPU).unwrap();
                        shape.forward(q, k, v, &segments).unwrap()
                    };
                    let what = format!("{past} + {tokens}: {dtype:?} {shape:?}");
                    let expected = forward(&wide(&q), &wide(&k), &wide(&v));
                    assert_close_after_rounding(&emulated(|| forward(&q, &k, &v)), &expected, &what);
                }
                let no_gradient = Pass { keys: layout.rows(), segments: pass.segments.clone(), ..pass };
                assert!(emulated(|| gradients_of(&shape, &[q, k, v, dy], &no_gradient)).is_err());
            }
        }
    }
}

#[test]
fn rows_are_written_to_their_places_in_a_cache() {
    for dtype in TYPES {
        let segments = Layout::continuing(&continuations(&[8, 0, 24], 2, 3)).segments;
        let (k, v) = (random(1, &[9, 20], dtype), random(2, &[9, 20], dtype));
        let write = || {
            let cache = [random(3, &[32, 20], dtype), random(4, &[32, 20], dtype)];
            Segments::new(segments.clone(), 9, &CPU).unwrap().write([&k, &v], cache.each_ref()).unwrap();
            cache.map(|cache| wide(&cache).to_vec2::<f32>().unwrap())
        };
        let [ours, theirs] = [emulated(write), write()];
        assert_eq!(ours, theirs);
        assert_eq!(ours[0][10], wide(&k).to_vec2::<f32>().unwrap()[0]);
    }
}

#[test]
fn a_product_refuses_tensors_that_do_not_fit() {
    let (x, w) = (random(1, &[3, 40], DType::BF16), random(2, &[7, 40], DType::BF16));
    let on = |x: &Tensor, onto: Option<&Tensor>, dtype| emulated(|| product(launcher(&CPU).unwrap(), x, &w, onto, dtype));
    assert_eq!(on(&x, None, DType::F32).unwrap().dims(), [3, 7]);
    assert_eq!(on(&x.narrow(0, 0, 0).unwrap(), None, DType::BF16).unwrap().dims(), [0, 7]);
    assert!(on(&x.narrow(1, 0, 39).unwrap(), None, DType::F32).is_err(), "rows that are too short");
    assert!(on(&x, Some(&w), DType::BF16).is_err(), "onto another shape");
    assert!(on(&x, None, DType::F16).is_err(), "to another type");
    assert!(on(&wide(&x), None, DType::F32).is_err(), "of two types");
}

#[test]
fn rows_that_are_read_by_sixteen_bytes_begin_at_a_multiple_of_them() {
    let x = random(1, &[40], DType::BF16);
    let at = |start: usize| x.narrow(0, start, 32).unwrap().reshape((1, 32)).unwrap();
    let w = random(2, &[32], DType::BF16);
    assert!(emulated(|| plain_norm(&w).forward(&at(8))).is_ok());
    assert!(emulated(|| plain_norm(&w).forward(&at(4))).is_err());
}

#[test]
fn a_call_refuses_what_a_kernel_does_not_take() {
    let (x, w) = (random(1, &[4, 8], DType::F32), random(2, &[8], DType::BF16));
    assert!(emulated(|| plain_norm(&w).forward(&x)).is_err(), "a weight of another type");
    let gaps = Call::by_row(Module::Norm, "rms_norm", &x, [8, 4]);
    let turned = x.t().unwrap();
    assert!(emulated(|| gaps.with(vec![Argument::read(&turned)]).launch(launcher(&CPU).unwrap())).is_err(), "with gaps");
    assert!(Argument::size(1 << 32).is_err());
    assert!(launcher(&CPU).is_none(), "the CPU has no kernels");
}

#[test]
fn no_rows_give_no_rows() {
    let (x, w) = (Tensor::zeros((0, 8), DType::F32, &CPU).unwrap(), random(2, &[8], DType::F32));
    assert_eq!(emulated(|| plain_norm(&w).forward(&x)).unwrap().dims(), [0, 8]);
}
