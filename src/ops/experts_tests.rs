//! Tests of `experts`: how the weights of a mixture are held.

use super::*;
use crate::ops::gated::Activation;
use crate::ops::linear::Linear;
use crate::ops::weight::HostWeight;

const COUNT: usize = 3;

fn mlp(expert: usize, hold: impl Fn(Tensor) -> Weight, bias: Option<Tensor>) -> GatedMlp {
    let matrix = |outputs: usize, inputs: usize| {
        let numbers = (0..outputs * inputs).map(|i| (100 * expert + i) as f32);
        hold(Tensor::from_iter(numbers, &Device::Cpu).unwrap().reshape((outputs, inputs)).unwrap())
    };
    GatedMlp {
        gate_up_proj: Linear { weight: matrix(8, 2), bias: None },
        down_proj: Linear { weight: matrix(2, 4), bias },
        activation: Activation::Silu,
    }
}

fn mixture(mlps: impl ExactSizeIterator<Item = GatedMlp>) -> Result<ExpertMlps> {
    ExpertMlps::new(ExpertChoice { per_token: 1, normalised: true }, mlps.map(Ok))
}

#[test]
fn tensors_of_experts_are_views_of_one_and_keep_their_numbers() {
    let mixture = mixture((0..COUNT).map(|expert| mlp(expert, Weight::Tensor, None))).unwrap();
    let stack = mixture.stack.as_ref().unwrap();
    assert_eq!((stack.gate_up_proj.dims(), stack.down_proj.dims()), ([COUNT, 8, 2].as_slice(), [COUNT, 2, 4].as_slice()));
    let whole = [&stack.gate_up_proj, &stack.down_proj];
    for (expert, held) in mixture.mlps.iter().enumerate() {
        let expected = mlp(expert, Weight::Tensor, None);
        for ((view, expected), whole) in held.weights().into_iter().zip(expected.weights()).zip(whole) {
            let (view, expected) = (view.tensor().unwrap(), expected.tensor().unwrap());
            assert_eq!(view.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
            // Of the stack's own memory, at the place of the expert.
            assert_eq!(view.layout().start_offset(), expert * view.elem_count());
            assert!(std::ptr::eq(&raw const *view.storage_and_layout().0, &raw const *whole.storage_and_layout().0));
        }
    }
}

#[test]
fn experts_that_no_kernel_takes_stay_as_they_are() {
    let on_host = |tensor: Tensor| Weight::Host(HostWeight::dense(tensor).unwrap());
    assert!(mixture((0..COUNT).map(|expert| mlp(expert, on_host, None))).unwrap().stack.is_none());
    let bias = || Some(Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
    assert!(mixture((0..COUNT).map(|expert| mlp(expert, Weight::Tensor, bias()))).unwrap().stack.is_none());
}
