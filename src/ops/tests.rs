//! Every op against finite differences (in both bodies), against candle's differentiable composition, and its fused body
//! against the composed one, on small odd shapes.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::attention::{AttentionShape, Gradients, Segment};
use super::cpu;
use super::cpu::product::rows_are_independent;
use super::encoding::Encoding;
use super::gated::{self, Activation};
use super::head::{Gradient, Head, Prediction, Predictions};
use super::linear::{FEWEST_ROWS_TOGETHER, Linear, Products};
use super::norm::RmsNorm;
use super::rope::{self, Angles, Rope, RopeParameters};
use super::weight::{HostWeight, RowOrder, Weight, WeightBytes};
use crate::Result;
use crate::model::layout::{Branches, Layout};

const CPU: Device = Device::Cpu;

fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, shape, &CPU).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    let product = (a.to_dtype(DType::F64).unwrap() * b.to_dtype(DType::F64).unwrap()).unwrap();
    product.sum_all().unwrap().to_scalar::<f64>().unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    let difference = (a.to_dtype(DType::F64).unwrap() - b.to_dtype(DType::F64).unwrap()).unwrap();
    let largest = difference.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
    assert!(largest < tolerance, "{what}: differs by {largest}");
}

/// ⟨f(x + εu) − f(x − εu), dy⟩ / 2ε equals ⟨vjp, u⟩ along several directions u.
fn assert_finite_differences(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, dy: &Tensor, dx: &Tensor, what: &str) {
    for seed in 100..104 {
        let u = random(seed, x.dims());
        let eps = 1e-2;
        let at = |by: f64| dot(&f(&(x + (&u * by).unwrap()).unwrap()).unwrap(), dy);
        // Richardson's extrapolation takes the error of the central difference from ε² to ε⁴.
        let central = |eps: f64| (at(eps) - at(-eps)) / (2.0 * eps);
        let numeric = (4.0 * central(eps / 2.0) - central(eps)) / 3.0;
        let analytic = dot(dx, &u);
        let scale = (dot(dx, dx) * dot(&u, &u)).sqrt();
        assert!((numeric - analytic).abs() < 2e-3 * scale, "{what}: numeric {numeric}, analytic {analytic}");
    }
}

/// The gradient that candle's tape gives.
fn tape(f: impl Fn(&Tensor) -> Tensor, x: &Tensor, dy: &Tensor) -> Tensor {
    let x = Var::from_tensor(x).unwrap();
    let loss = (f(x.as_tensor()) * dy).unwrap().sum_all().unwrap();
    loss.backward().unwrap().get(&x).unwrap().clone()
}

#[test]
fn rms_norm_has_the_right_value_and_gradient() {
    for offset in [0.0, 1.0] {
        let (x, weight, dy) = (random(1, &[5, 37]), random(2, &[37]), random(3, &[5, 37]));
        let factors = (&weight + f64::from(offset)).unwrap();
        let norm = RmsNorm { weight, eps: 1e-3, offset };
        let expected = |x: &Tensor| candle_nn::ops::rms_norm_slow(x, &factors, 1e-3).unwrap();
        assert_close(&norm.forward(&x).unwrap(), &expected(&x), 1e-6, "fused");
        assert_close(&norm.forward_composed(&x).unwrap(), &expected(&x), 1e-6, "composed");
        let by_tape = tape(expected, &x, &dy);
        let fused = norm.vjp(&x, &dy).unwrap();
        assert_close(&fused, &by_tape, 1e-5, "fused vjp");
        assert_close(&norm.vjp_composed(&x, &dy).unwrap(), &by_tape, 1e-5, "composed vjp");
        assert_finite_differences(|x| norm.forward(x), &x, &dy, &fused, "rms norm");
        let residual = random(4, &[5, 37]);
        let onto = norm.vjp_onto(&residual, &x, &dy).unwrap();
        assert_close(&onto, &(residual + by_tape).unwrap(), 1e-5, "vjp onto a residual");
    }
}

#[test]
fn a_row_whose_squares_are_beyond_f32_has_no_norm_and_spoils_no_other_row() {
    let norm = RmsNorm { weight: random(2, &[37]), eps: 1e-3, offset: 0.0 };
    let (x, dy) = (random(1, &[3, 37]), random(3, &[3, 37]));
    // Each of the numbers is finite: (1e30)² is not.
    let scale = Tensor::new(&[[1f32], [1e30], [1.0]], &CPU).unwrap();
    let long = x.broadcast_mul(&scale).unwrap();
    let rows = |y: Result<Tensor>| y.unwrap().to_vec2::<f32>().unwrap();
    type Body<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;
    let bodies: [(&str, Body); 4] = [
        ("fused", &|x| norm.forward(x)),
        ("composed", &|x| norm.forward_composed(x)),
        ("fused vjp", &|x| norm.vjp(x, &dy)),
        ("composed vjp", &|x| norm.vjp_composed(x, &dy)),
    ];
    for (what, body) in bodies {
        let (found, without) = (rows(body(&long)), rows(body(&x)));
        assert!(found[1].iter().all(|y| y.is_nan()), "{what}: {:?}", found[1]);
        assert_eq!([&found[0], &found[2]], [&without[0], &without[2]], "{what}");
    }
}

#[test]
fn a_norm_of_16_bits_rounds_before_a_plain_weight_and_once_after_one_with_an_offset() {
    let [x, weight] = [random(1, &[4, 30]), random(2, &[30])].map(|t| t.to_dtype(DType::BF16).unwrap());
    let [wide, wide_weight] = [&x, &weight].map(|t| t.to_dtype(DType::F32).unwrap());
    let ones = Tensor::ones(30, DType::F32, &CPU).unwrap();
    let normed = candle_nn::ops::rms_norm_slow(&wide, &ones, 1e-3).unwrap();
    let numbers = |t: Tensor| t.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    let twice = normed.to_dtype(DType::BF16).unwrap().broadcast_mul(&weight).unwrap();
    let once = normed.broadcast_mul(&(wide_weight + 1.0).unwrap()).unwrap().to_dtype(DType::BF16).unwrap();
    for (offset, expected) in [(0.0, twice), (1.0, once)] {
        let norm = RmsNorm { weight: weight.clone(), eps: 1e-3, offset };
        assert_eq!(numbers(norm.forward(&x).unwrap()), numbers(expected));
    }
}

/// candle's activation; its `gelu` is the approximation by tanh.
fn activated(gate: &Tensor, activation: Activation) -> Tensor {
    match activation {
        Activation::Silu => gate.silu().unwrap(),
        Activation::GeluTanh => gate.gelu().unwrap(),
    }
}

#[test]
fn gated_activations_have_the_right_value_and_gradient() {
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let (x, dy) = ((random(1, &[5, 38]) * 4.0).unwrap(), random(3, &[5, 19]));
        let expected = |x: &Tensor| {
            let (gate, up) = (x.narrow(1, 0, 19).unwrap(), x.narrow(1, 19, 19).unwrap());
            (activated(&gate, activation) * up).unwrap()
        };
        let (what, close) = (format!("{activation:?}"), 2e-6);
        assert_close(&gated::forward(&x, activation).unwrap(), &expected(&x), close, &what);
        assert_close(&gated::forward_composed(&x, activation).unwrap(), &expected(&x), close, &what);
        let fused = gated::vjp(&x, &dy, activation).unwrap();
        assert_close(&gated::vjp_composed(&x, &dy, activation).unwrap(), &fused, 1e-5, &what);
        assert_close(&fused, &tape(expected, &x, &dy), 1e-5, &what);
        assert_finite_differences(|x| gated::forward(x, activation), &x, &dy, &fused, &what);
    }
}

#[test]
fn gelu_and_its_slope_are_those_of_the_formula_in_f64() {
    // PyTorch's gelu with approximate="tanh"; the gate goes from −12 to 12, and up is 1.
    let gates: Vec<f32> = (-12_000..=12_000).map(|i| i as f32 * 1e-3).collect();
    let gate_up = Tensor::new(gates.clone(), &CPU).unwrap().unsqueeze(1).unwrap();
    let gate_up = Tensor::cat(&[&gate_up, &gate_up.ones_like().unwrap()], 1).unwrap();
    let dy = Tensor::ones((gates.len(), 1), DType::F32, &CPU).unwrap();
    let values = gated::forward(&gate_up, Activation::GeluTanh).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let slopes = gated::vjp(&gate_up, &dy, Activation::GeluTanh).unwrap().to_vec2::<f32>().unwrap();
    for ((gate, value), slope) in gates.iter().zip(values).zip(slopes) {
        let x = *gate as f64;
        let (k, cube) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044_715);
        let tanh = (k * (x + cube * x.powi(3))).tanh();
        let expected = 0.5 * x * (1.0 + tanh);
        let expected_slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * k * (1.0 + 3.0 * cube * x * x);
        assert!((value as f64 - expected).abs() <= 3e-7 * x.abs(), "gelu({x}): {value} is not {expected}");
        assert!((slope[0] as f64 - expected_slope).abs() <= 1e-6, "slope at {x}: {} is not {expected_slope}", slope[0]);
        assert_eq!(slope[1], value, "the gradient of up at {x}");
    }
}

#[test]
fn linear_agrees_for_few_rows_many_rows_and_with_bias() {
    for (rows, inputs, outputs) in [(1, 37, 23), (3, 64, 50), (5, 33, 7), (12, 40, 9), (13, 33, 35), (40, 70, 31)] {
        let (weight, x, dy) = (random(1, &[outputs, inputs]), random(2, &[rows, inputs]), random(3, &[rows, outputs]));
        for bias in [None, Some(random(4, &[outputs]))] {
            let linear = Linear { weight: weight.clone().into(), bias };
            let expected = |x: &Tensor| {
                let y = x.matmul(&weight.t().unwrap()).unwrap();
                linear.bias.as_ref().map_or(y.clone(), |bias| y.broadcast_add(bias).unwrap())
            };
            assert_close(&linear.forward(&x, Products::Fastest).unwrap(), &expected(&x), 1e-4, "linear");
            let dx = linear.vjp(&dy).unwrap();
            assert_close(&dx, &tape(expected, &x, &dy), 1e-4, "linear vjp");
            assert_finite_differences(|x| linear.forward(x, Products::Fastest), &x, &dy, &dx, "linear");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch_of_any_size_where_that_is_asked_for() {
    let weight = random(1, &[67, 301]);
    let halves = weight.to_dtype(DType::BF16).unwrap().flatten_all().unwrap().to_vec1::<half::bf16>().unwrap();
    let bytes: Vec<u8> = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
    let encoded = HostWeight::encoded(WeightBytes::Owned(bytes.into()), Encoding::Bf16, 301, RowOrder::Plain).unwrap();
    let x = random(2, &[41, 301]);
    // Dense products are those of one kernel where its rows are independent, whatever is asked for.
    for (weight, in_one_order) in [(weight.into(), rows_are_independent()), (Weight::Host(encoded), false)] {
        let linear = Linear { weight, bias: None };
        let product = |first, rows, products| {
            let x = x.narrow(0, first, rows).unwrap();
            linear.forward(&x, products).unwrap().to_vec2::<f32>().unwrap()
        };
        let alone: Vec<Vec<f32>> = (0..41).flat_map(|row| product(row, 1, Products::Fastest)).collect();
        for rows in 1..=41 {
            assert_eq!(product(0, rows, Products::BatchInvariant), alone[..rows]);
            if rows < FEWEST_ROWS_TOGETHER {
                assert_eq!(product(0, rows, Products::Fastest), alone[..rows]);
            }
        }
        // Were the orders always the same, the choice would be of no use.
        assert_eq!(product(0, 41, Products::Fastest) == alone, in_one_order);
    }
}

#[test]
fn rope_rotates_as_candle_does_and_its_gradient_is_the_inverse() {
    let (heads, dim, positions) = (3, 10, [0, 1, 2, 5, 9]);
    let rope = Rope::new(dim, &RopeParameters::plain(100.0, dim));
    let angles = Angles::new(&rope, &positions, &[10; 5], &CPU).unwrap();
    let (x, dy) = (random(1, &[5, heads * dim]), random(2, &[5, heads * dim]));
    let angle = |f: fn(f32) -> f32| {
        let values = positions.iter().flat_map(|p| (0..5).map(move |i| f(*p as f32 * 100f32.powf(-(i as f32) / 5.0))));
        Tensor::from_iter(values, &CPU).unwrap().reshape((5, 5)).unwrap()
    };
    let (cos, sin) = (angle(f32::cos), angle(f32::sin));
    let expected = |x: &Tensor| {
        let by_head = x.reshape((1, 5, heads, dim)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
        let y = candle_nn::rotary_emb::rope_slow(&by_head, &cos, &sin).unwrap();
        y.transpose(1, 2).unwrap().reshape((5, heads * dim)).unwrap()
    };
    assert_close(&rope::forward(&x, &angles).unwrap(), &expected(&x), 1e-5, "fused");
    assert_close(&rope::forward_composed(&x, &angles).unwrap(), &expected(&x), 1e-5, "composed");
    let dx = rope::forward(&dy, &angles.inverse()).unwrap();
    assert_close(&dx, &tape(expected, &x, &dy), 1e-5, "vjp");
    assert_finite_differences(|x| rope::forward(x, &angles), &x, &dy, &dx, "rope");
}

fn two_branches(prefix: usize) -> Layout {
    let mut layout = Layout::default();
    layout.push_all_branches(
        prefix,
        &[Branches { shared: 7, first: 6, second: 3 }, Branches { shared: 5 + prefix, first: 1, second: 9 }],
    );
    layout
}

/// Attention by the definition: softmax over the visible keys, from candle's differentiable ops.
fn attention_by_definition(shape: &AttentionShape, q: &Tensor, k: &Tensor, v: &Tensor, segments: &[Segment]) -> Tensor {
    let d = shape.head_dim;
    let mut rows: Vec<Option<Tensor>> = vec![None; q.dim(0).unwrap()];
    for segment in segments {
        let keys: Vec<usize> = segment.key_rows().collect();
        for (i, row) in segment.queries.clone().enumerate() {
            let visible: Vec<u32> = keys[segment.visible(i, shape.sliding_window)].iter().map(|key| *key as u32).collect();
            let visible = Tensor::new(visible, &CPU).unwrap();
            let heads = (0..shape.heads).map(|head| {
                let kv = head / (shape.heads / shape.kv_heads);
                let q = q.narrow(0, row, 1).unwrap().narrow(1, head * d, d).unwrap();
                let of = |t: &Tensor| t.index_select(&visible, 0).unwrap().narrow(1, kv * d, d).unwrap();
                let scores = (q.matmul(&of(k).t().unwrap()).unwrap() * shape.scale).unwrap();
                let scores = match shape.softcap {
                    None => scores,
                    Some(cap) => ((scores / cap).unwrap().tanh().unwrap() * cap).unwrap(),
                };
                candle_nn::ops::softmax(&scores, D::Minus1).unwrap().matmul(&of(v)).unwrap()
            });
            rows[row] = Some(Tensor::cat(&heads.collect::<Vec<_>>(), 1).unwrap());
        }
    }
    Tensor::cat(&rows.into_iter().flatten().collect::<Vec<_>>(), 0).unwrap()
}

#[test]
fn attention_has_the_right_value_and_gradients() {
    let wanted: Vec<usize> = vec![6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30];
    for layout in [two_branches(0), two_branches(3)] {
        let (selected, selected_rows) = layout.select(&wanted);
        assert_eq!(selected_rows, wanted);
        assert_eq!(layout.rows(), 31);
        for (heads, kv_heads) in [(4, 4), (6, 2), (3, 1)] {
            for sliding_window in [None, Some(4)] {
                for (segments, queries) in [(&layout.segments, layout.rows()), (&selected, wanted.len())] {
                    for (scale, softcap) in [(1.0 / 6f64.sqrt(), None), (0.9, Some(1.5))] {
                        let shape = AttentionShape { heads, kv_heads, head_dim: 6, sliding_window, scale, softcap };
                        let q = (random(1, &[queries, heads * 6]) * 3.0).unwrap();
                        let (k, v) = (random(2, &[31, kv_heads * 6]), random(3, &[31, kv_heads * 6]));
                        let dy = random(4, &[queries, heads * 6]);
                        check_attention(&shape, [&q, &k, &v], segments, &dy);
                    }
                }
            }
        }
    }
}

fn check_attention(shape: &AttentionShape, [q, k, v]: [&Tensor; 3], segments: &[Segment], dy: &Tensor) {
    let expected = attention_by_definition(shape, q, k, v, segments);
    assert_close(&cpu::attention::forward(shape, [q, k, v], segments).unwrap(), &expected, 1e-5, "fused");
    assert_close(&shape.forward_composed(q, k, v, segments).unwrap(), &expected, 1e-5, "composed");
    let by_tape = Gradients {
        q: tape(|q| attention_by_definition(shape, q, k, v, segments), q, dy),
        k: tape(|k| attention_by_definition(shape, q, k, v, segments), k, dy),
        v: tape(|v| attention_by_definition(shape, q, k, v, segments), v, dy),
    };
    let fused = cpu::attention::vjp(shape, [q, k, v], segments, dy).unwrap();
    let composed = shape.vjp_composed(q, k, v, segments, dy).unwrap();
    for (gradients, what) in [(&fused, "fused"), (&composed, "composed")] {
        assert_close(&gradients.q, &by_tape.q, 1e-5, what);
        assert_close(&gradients.k, &by_tape.k, 1e-5, what);
        assert_close(&gradients.v, &by_tape.v, 1e-5, what);
    }
    assert_finite_differences(|q| cpu::attention::forward(shape, [q, k, v], segments), q, dy, &fused.q, "dq");
    assert_finite_differences(|k| cpu::attention::forward(shape, [q, k, v], segments), k, dy, &fused.k, "dk");
    assert_finite_differences(|v| cpu::attention::forward(shape, [q, k, v], segments), v, dy, &fused.v, "dv");
}

#[test]
fn the_head_has_the_right_log_probs_and_gradient_across_tiles() {
    let (rows, hidden, vocab) = (5, 12, 4500); // two full tiles and a part
    let (h, w) = (random(1, &[rows, hidden]), (random(2, &[vocab, hidden]) * 2.0).unwrap());
    let list = [(0, 7), (0, 4499), (1, 2047), (2, 2048), (4, 0)].map(|(row, target)| Prediction { row, target });
    let predictions = Predictions::new(list.to_vec(), rows, &CPU).unwrap();
    for softcap in [None, Some(2.5)] {
        let head = Head { weight: w.clone().into(), softcap };
        let logits = |h: &Tensor| {
            let logits = h.matmul(&w.t().unwrap()).unwrap();
            match softcap {
                None => logits,
                Some(cap) => ((logits / cap).unwrap().tanh().unwrap() * cap).unwrap(),
            }
        };
        let expected = |h: &Tensor| {
            let log_p = candle_nn::ops::log_softmax(&logits(h), D::Minus1).unwrap();
            let index: Vec<u32> = predictions.iter().map(|p| (p.row * vocab) as u32 + p.target).collect();
            log_p.flatten_all().unwrap().index_select(&Tensor::new(index, &CPU).unwrap(), 0).unwrap()
        };
        assert_close(&head.logits(&h, Products::Fastest).unwrap(), &logits(&h), 1e-5, "logits");
        let dy = random(3, &[predictions.len()]);
        let by_tape = tape(expected, &h, &dy);
        let value = |h: &Tensor| -> Result<Tensor> { Ok(head.forward(h, &predictions, Gradient::NotWanted)?.log_probs) };
        let composed = head.forward_composed(&h, &predictions, Gradient::Wanted).unwrap();
        for saved in [head.forward(&h, &predictions, Gradient::Wanted).unwrap(), composed] {
            assert_close(&saved.log_probs, &expected(&h), 1e-4, "log-probs");
            assert_close(&value(&h).unwrap(), &expected(&h), 1e-4, "log-probs alone");
            let dh = head.vjp(&saved, &predictions, &dy, DType::F32).unwrap();
            assert_close(&dh, &by_tape, 1e-4, "head vjp");
            assert_finite_differences(value, &h, &dy, &dh, "head");
        }
        let without = head.forward(&h, &predictions, Gradient::NotWanted).unwrap();
        assert!(head.vjp(&without, &predictions, &dy, DType::F32).is_err());
    }
    let [first, .., last] = list;
    assert!(Predictions::new(vec![last, first], rows, &CPU).is_err(), "not in the order of the rows");
    assert!(Predictions::new(vec![first, last], 4, &CPU).is_err(), "a row that is not there");
}

/// Rows of `cols` f32 numbers as a matrix in the encoding of a file, and the numbers that it holds.
fn encoded(weight: &Tensor, dtype: GgmlDType, order: RowOrder) -> (Weight, Tensor) {
    let (rows, cols) = weight.dims2().unwrap();
    let quantised = QTensor::quantize(weight, dtype).unwrap();
    let bytes = WeightBytes::Owned(quantised.data().unwrap().as_ref().into());
    let decoded = quantised.dequantize(&CPU).unwrap();
    let index: Vec<u32> = (0..rows).map(|row| order.stored(row, rows) as u32).collect();
    let wanted = decoded.index_select(&Tensor::new(index, &CPU).unwrap(), 0).unwrap();
    (Weight::Host(HostWeight::encoded(bytes, Encoding::from(dtype), cols, order).unwrap()), wanted)
}

#[test]
fn products_with_encoded_weights_are_those_with_their_decoded_numbers() {
    let interleaved = RowOrder::Interleaved { heads: 3 };
    for dtype in [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16, GgmlDType::Q4_1, GgmlDType::Q8_0] {
        let (top, top_numbers) = encoded(&random(1, &[24, 64]), dtype, interleaved);
        let (bottom, bottom_numbers) = encoded(&random(2, &[7, 64]), GgmlDType::Q4_0, RowOrder::Plain);
        let held = Linear { weight: Weight::stack(vec![top, bottom]).unwrap(), bias: Some(random(3, &[31])) };
        let numbers = Tensor::cat(&[top_numbers, bottom_numbers], 0).unwrap();
        let dense = Linear { weight: numbers.clone().into(), bias: held.bias.clone() };
        for rows in [1, 5, 12, 13, 40] {
            let (x, residual, dy) = (random(4, &[rows, 64]), random(5, &[rows, 31]), random(6, &[rows, 31]));
            assert_close(
                &held.forward(&x, Products::Fastest).unwrap(),
                &dense.forward(&x, Products::Fastest).unwrap(),
                2e-5,
                "forward",
            );
            let onto = held.forward_onto(&residual, &x, Products::Fastest).unwrap();
            assert_close(&onto, &(residual + dense.forward(&x, Products::Fastest).unwrap()).unwrap(), 2e-5, "forward onto");
            assert_close(&held.vjp(&dy).unwrap(), &dense.vjp(&dy).unwrap(), 2e-5, "vjp");
        }
        let ids = [30, 0, 23, 24];
        let rows = held.weight.rows(&ids, DType::F32, &CPU).unwrap();
        assert_close(&rows, &numbers.index_select(&Tensor::new(&ids, &CPU).unwrap(), 0).unwrap(), 1e-9, "rows");
    }
}

/// The numbers of a tensor as bf16 has them, in f32.
fn rounded(x: &Tensor) -> Tensor {
    x.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap()
}

/// A matrix of bf16 for products of bf16.
fn in_bf16(weight: &Tensor) -> Weight {
    let (_, cols) = weight.dims2().unwrap();
    let halves = weight.to_dtype(DType::BF16).unwrap().flatten_all().unwrap().to_vec1::<half::bf16>().unwrap();
    let bytes = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
    Weight::Host(HostWeight::bf16(WeightBytes::Owned(bytes), cols).unwrap())
}

#[test]
fn products_in_bf16_are_those_of_rounded_numbers_unless_rows_must_have_the_bits_of_each_alone() {
    let numbers = [random(1, &[24, 64]), random(2, &[7, 64])];
    let dense = Linear { weight: rounded(&Tensor::cat(&numbers, 0).unwrap()).into(), bias: Some(random(3, &[31])) };
    let stacked = Weight::stack(numbers.iter().map(in_bf16).collect()).unwrap();
    let [single, stacked] =
        [in_bf16(&Tensor::cat(&numbers, 0).unwrap()), stacked].map(|weight| Linear { weight, bias: dense.bias.clone() });
    for held in [single, stacked] {
        for rows in [1, 12, 13, 40] {
            let (x, residual, dy) = (random(4, &[rows, 64]), random(5, &[rows, 31]), random(6, &[rows, 31]));
            let expected = dense.forward(&rounded(&x), Products::Fastest).unwrap();
            assert_close(&held.forward(&x, Products::Fastest).unwrap(), &expected, 2e-5, "forward");
            let onto = held.forward_onto(&residual, &x, Products::Fastest).unwrap();
            assert_close(&onto, &(residual + expected).unwrap(), 2e-5, "forward onto");
            assert_close(&held.vjp(&dy).unwrap(), &dense.vjp(&rounded(&dy)).unwrap(), 2e-5, "vjp");
            let unrounded = held.forward(&x, Products::BatchInvariant).unwrap();
            assert_close(&unrounded, &dense.forward(&x, Products::Fastest).unwrap(), 2e-5, "not rounded");
            let alone = held.forward(&x.narrow(0, 0, 1).unwrap(), Products::BatchInvariant).unwrap();
            assert_eq!(alone.to_vec2::<f32>().unwrap()[0], unrounded.to_vec2::<f32>().unwrap()[0], "{rows} rows");
        }
        let (in_memory, mapped) = held.weight.memory();
        assert_eq!((in_memory, mapped), (2 * 31 * 64, 0));
    }
}

#[test]
fn the_head_in_bf16_is_that_of_rounded_numbers() {
    let (h, w) = ((random(1, &[3, 32]) * 3.0).unwrap(), random(2, &[2500, 32]));
    let predictions = [(0, 7), (1, 2499), (2, 2048)].map(|(row, target)| Prediction { row, target });
    let predictions = Predictions::new(predictions.to_vec(), 3, &CPU).unwrap();
    let [held, dense] = [in_bf16(&w), rounded(&w).into()].map(|weight| Head { weight, softcap: None });
    let ours = held.forward(&h, &predictions, Gradient::Wanted).unwrap();
    let expected = dense.forward(&rounded(&h), &predictions, Gradient::Wanted).unwrap();
    assert_close(&ours.log_probs, &expected.log_probs, 1e-5, "log-probs");
    let gradients = Tensor::new(&[1f32, -2.0, 0.5], &CPU).unwrap();
    let [ours, expected] = [(&held, &ours), (&dense, &expected)]
        .map(|(head, saved)| head.vjp(saved, &predictions, &gradients, DType::F32).unwrap());
    // The probabilities are rounded too: by 2^-9 of each.
    assert_close(&ours, &expected, 2e-3, "head vjp");
}

#[test]
fn a_row_of_an_encoded_product_has_the_same_bits_alone_and_in_a_batch() {
    let (weight, _) = encoded(&random(1, &[67, 320]), GgmlDType::Q4_1, RowOrder::Plain);
    let linear = Linear { weight, bias: None };
    let x = random(2, &[12, 320]);
    for rows in 1..=12 {
        let batch = linear.forward(&x.narrow(0, 0, rows).unwrap(), Products::Fastest).unwrap().to_vec2::<f32>().unwrap();
        for (row, values) in batch.iter().enumerate() {
            let alone = linear.forward(&x.narrow(0, row, 1).unwrap(), Products::Fastest).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(values, &alone[0]);
        }
    }
}

#[test]
fn the_head_of_an_encoded_weight_is_that_of_its_decoded_numbers() {
    let (held, numbers) = encoded(&random(2, &[2500, 32]), GgmlDType::Q8_0, RowOrder::Plain);
    let h = (random(1, &[3, 32]) * 3.0).unwrap();
    let predictions = [(0, 7), (1, 2499), (2, 2048)].map(|(row, target)| Prediction { row, target });
    let predictions = Predictions::new(predictions.to_vec(), 3, &CPU).unwrap();
    let heads = [held, numbers.into()].map(|weight| Head { weight, softcap: None });
    let [ours, expected] = heads.each_ref().map(|head| head.forward(&h, &predictions, Gradient::Wanted).unwrap());
    assert_close(&ours.log_probs, &expected.log_probs, 1e-5, "log-probs");
    let gradients = Tensor::new(&[1f32, -2.0, 0.5], &CPU).unwrap();
    let [held, _] = &heads;
    let ours = held.vjp(&ours, &predictions, &gradients, DType::F32).unwrap();
    let expected = held.vjp(&expected, &predictions, &gradients, DType::F32).unwrap();
    assert_close(&ours, &expected, 1e-5, "head vjp");
}

#[test]
fn a_target_beyond_the_vocabulary_is_refused_by_every_body() {
    let (h, w) = (random(1, &[2, 32]), random(2, &[20, 32]));
    let half = |x: &Tensor| x.to_dtype(DType::BF16).unwrap();
    let (encoded, _) = encoded(&w, GgmlDType::Q8_0, RowOrder::Plain);
    let beyond = Predictions::new(vec![Prediction { row: 1, target: 20 }], 2, &CPU).unwrap();
    let last = Predictions::new(vec![Prediction { row: 1, target: 19 }], 2, &CPU).unwrap();
    for (h, weight) in [(h.clone(), encoded), (h.clone(), w.clone().into()), (half(&h), half(&w).into())] {
        let head = Head { weight, softcap: None };
        assert!(head.forward(&h, &last, Gradient::NotWanted).is_ok());
        let error = head.forward(&h, &beyond, Gradient::NotWanted).unwrap_err().to_string();
        assert!(error.contains("token 20 out of range: model has 20 tokens"), "{error}");
    }
}
