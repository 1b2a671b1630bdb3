//! Counts compared with what models of the fixtures' shapes hold.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::model::Model;
use crate::model::block::Saved;
use crate::model::layout::Layout;
use crate::model::plan::{FrozenKeys, PassPlan};
use crate::model::random::MadeOn;
use crate::model::weights::Weights;
use crate::ops::head::Gradient;

fn model(fixture: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture).join("config.json");
    Model::load(&Weights::random(MadeOn::Host(7)), Config::read(&path).unwrap(), DType::F32, &Device::Cpu).unwrap()
}

fn one_sequence(model: &Model, rows: usize) -> Layout {
    assert!(model.can_share_prefix(rows));
    let mut layout = Layout::default();
    layout.push_sequence(rows);
    layout
}

/// Runs every block on `x (R, H)`.
fn saved_by(model: &Model, plan: &PassPlan, x: &Tensor) -> Vec<Saved> {
    model.run_saving(0..model.num_blocks(), x, plan, Gradient::Wanted).unwrap().1
}

fn embedded(model: &Model, rows: std::ops::Range<u32>) -> Tensor {
    model.embed(&rows.collect::<Vec<_>>()).unwrap()
}

fn bytes(saved: &[Saved]) -> usize {
    let of_block = |block: &Saved| {
        let attention = &block.attention;
        let parts = [&block.x, &attention.q, &attention.k, &attention.v, &block.middle];
        let at_norms = attention.qk.iter().flatten().chain(&block.attended).chain(&block.fed);
        parts
            .into_iter()
            .chain(at_norms)
            .chain(block.mlp.tensors())
            .map(|part| part.elem_count() * part.dtype().size_in_bytes())
            .sum::<usize>()
    };
    saved.iter().map(of_block).sum()
}

#[test]
fn blocks_save_for_their_gradient_what_is_counted() {
    for fixture in ["llama", "qwen2", "qwen3", "gemma2", "olmo2", "mixtral", "qwen3_moe"] {
        let model = model(fixture);
        let plan = model.plan(&one_sequence(&model, 7)).unwrap();
        assert_eq!(bytes(&saved_by(&model, &plan, &embedded(&model, 0..7))), model.saved_bytes(0, 7, 7), "{fixture}");
    }
}

#[test]
fn keys_and_values_are_saved_of_frozen_rows_too() {
    for fixture in ["llama", "qwen3"] {
        let model = model(fixture);
        let layout = one_sequence(&model, 7);
        let whole = saved_by(&model, &model.plan(&layout).unwrap(), &embedded(&model, 0..7));
        let frozen: Vec<Tensor> = whole
            .iter()
            .map(|block| Tensor::stack(&block.keys_and_values().map(|rows| rows.narrow(0, 0, 5).unwrap()), 0).unwrap())
            .collect();
        let mut keys = FrozenKeys::from(0);
        keys.push(&[Tensor::stack(&frozen, 0).unwrap()], model.device()).unwrap();
        let plan = model.plan_rows(&layout, &[5, 6], &keys).unwrap();
        assert_eq!(bytes(&saved_by(&model, &plan, &embedded(&model, 5..7))), model.saved_bytes(0, 2, 7), "{fixture}");
    }
}

#[test]
fn matrices_have_the_elements_that_are_counted() {
    for fixture in ["llama", "llama-tied", "qwen3", "gemma3_text", "mixtral", "qwen3_moe"] {
        let model = model(fixture);
        let (in_memory, mapped) = model.weight_bytes();
        assert_eq!(4 * model.config.matrix_elements(), (in_memory + mapped) as u64, "{fixture}");
    }
}
