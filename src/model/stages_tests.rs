//! Tests of `stages`.

use candle_core::DType;

use super::*;
use crate::model::Model;
use crate::model::layout::Layout;
use crate::model::plan::FrozenKeys;
use crate::model::random::MadeOn;
use crate::model::shapes::Shape;
use crate::model::split::Split;
use crate::model::weights::{WeightStorage, Weights};

/// A model of four blocks, so many on each of several stages.
fn model(counts: &[usize]) -> Model {
    let (config, weights) = (Shape::Tiny.config(), Weights::random(MadeOn::Host(7)));
    let by_hand = Some(counts).filter(|counts| counts.len() > 1);
    let split = Split::new(vec![Device::Cpu; counts.len()], by_hand, &config).unwrap();
    Model::load_divided(&weights, config, DType::F32, &split, WeightStorage::Dense).unwrap()
}

fn numbers(x: &Tensor) -> Vec<Vec<f32>> {
    x.to_vec2().unwrap()
}

fn layout() -> Layout {
    let mut layout = Layout::default();
    layout.push_sequence(5);
    layout
}

/// What runs of some blocks give, and the gradient of what went in.
fn computed(model: &Model) -> Vec<[Vec<Vec<f32>>; 2]> {
    let plan = model.plan(&layout()).unwrap();
    let (selection, _) = plan.select(&layout(), &[2, 4]).unwrap();
    let x = model.embed(&[3, 1, 4, 1, 5]).unwrap();
    let of = |range: Range<usize>, rows: PassRows| {
        let (y, saved) = model.stages.forward(range.clone(), &x, rows, None, Gradient::Wanted).unwrap();
        assert_eq!(saved.len(), range.len());
        let dx = model.stages.vjp(range.end, saved, rows, &y).unwrap();
        assert_eq!(dx.dims(), x.dims());
        [numbers(&y), numbers(&dx)]
    };
    let all = [0..4, 1..3, 2..2].map(|range| of(range, PassRows::all(&plan)));
    let selected = [0..4, 3..4, 4..4].map(|range| of(range, PassRows::of(&plan, &selection)));
    assert_eq!(all[2], [numbers(&x), numbers(&x)]);
    all.into_iter().chain(selected).collect()
}

#[test]
fn blocks_in_several_stages_compute_what_they_do_in_one() {
    let of_one = computed(&model(&[4]));
    for counts in [&[2, 2][..], &[1, 3], &[3, 1], &[1, 1, 1, 1]] {
        assert_eq!(computed(&model(counts)), of_one, "{counts:?}");
    }
}

#[test]
fn a_residual_lies_where_the_next_block_reads_it_and_the_head_is_with_the_last() {
    let model = model(&[1, 2, 1]);
    assert_eq!([0, 1, 2, 3, 4].map(|block| model.stages.stage_of(block)), [0, 1, 1, 2, 2]);
    let runs = |first| -> Vec<Range<usize>> { model.runs_from(first).filter(|run| !run.is_empty()).collect() };
    assert_eq!(runs(0), [0..1, 1..3, 3..4]);
    assert_eq!(runs(2), [2..3, 3..4]);
    assert!(runs(4).is_empty());
}

#[test]
fn a_plan_has_the_frozen_keys_of_every_stage() {
    let frozen_rows = |model: &Model| {
        let whole = model.plan(&layout()).unwrap();
        let x = model.embed(&[3, 1, 4, 1, 5]).unwrap();
        let (_, saved) = model.run_saving(0..4, &x, &whole, Gradient::Wanted).unwrap();
        let of_block = |block: &Saved| Tensor::stack(&block.keys_and_values().map(|x| x.narrow(0, 0, 3).unwrap()), 0).unwrap();
        let by_block: Vec<Tensor> = saved.iter().map(of_block).collect();
        let mut keys = FrozenKeys::from(0);
        for run in model.runs_from(0) {
            keys.push(&[Tensor::stack(&by_block[run.clone()], 0).unwrap()], model.device_at(run.start)).unwrap();
        }
        let plan = model.plan_rows(&layout(), &[3, 4], &keys).unwrap();
        numbers(&model.run(0..4, &model.embed(&[1, 5]).unwrap(), &plan).unwrap())
    };
    assert_eq!(frozen_rows(&model(&[1, 2, 1])), frozen_rows(&model(&[4])));
}

/// The tiny model's four blocks on two stages, `in_file` of them left in their file.
fn offloaded(in_file: usize) -> Model {
    let (config, weights) = (Shape::Tiny.config(), std::sync::Arc::new(Weights::random(MadeOn::Host(7))));
    let split = Split::new(vec![Device::Cpu; 2], Some(&[1, 3]), &config).unwrap();
    Model::load_offloaded(&weights, config, DType::F32, &split, WeightStorage::Dense, in_file).unwrap()
}

#[test]
fn blocks_that_are_read_when_they_are_run_compute_what_held_ones_do() {
    let of_one = computed(&model(&[4]));
    let held = model(&[4]).weight_bytes();
    for in_file in 0..=4 {
        let model = offloaded(in_file);
        assert_eq!(computed(&model), of_one, "{in_file}");
        assert_eq!(
            (0..4).map(|block| model.reads_any(block..block + 1)).collect::<Vec<_>>(),
            [0, 1, 2, 3].map(|b| b < in_file)
        );
        // What a pass may save is measured by them: it must not depend on where they are.
        let (in_memory, in_files) = model.weight_bytes();
        assert_eq!(in_memory + in_files, held.0 + held.1);
    }
}

#[test]
fn several_passes_go_through_a_block_together() {
    let model = offloaded(3);
    let sequence = |len: usize| {
        let mut layout = Layout::default();
        layout.push_sequence(len);
        (model.plan(&layout).unwrap(), model.embed(&[3, 1, 4, 1, 5][..len]).unwrap())
    };
    let passes = [5, 2, 4].map(sequence);
    let (plans, embedded): (Vec<_>, Vec<Tensor>) = passes.iter().map(|(plan, x)| (plan, x.clone())).unzip();
    let together = (0..3).fold(embedded, |passes, block| model.run_each(block, passes, &plans).unwrap());
    for ((plan, x), together) in passes.iter().zip(&together) {
        assert_eq!(numbers(together), numbers(&model.run(0..3, x, plan).unwrap()));
    }
}

#[test]
fn blocks_that_were_let_go_are_needed_by_no_other_and_are_not_run_again() {
    let whole = model(&[1, 2, 1]);
    for (end, stages) in [(0, 3), (1, 2), (2, 2), (3, 1), (4, 1)] {
        for mut model in [model(&[1, 2, 1]), model(&[4])] {
            let held = |model: &Model| model.stages.all.iter().map(|stage| stage.blocks.len()).sum::<usize>();
            let several = model.stages.all.len() > 1;
            model.release(end);
            assert_eq!(held(&model), 4 - end);
            assert_eq!(model.stages.all.len(), if several { stages } else { 1 });
            let upper = |model: &Model| {
                let plan = model.plan(&layout()).unwrap();
                let (selection, _) = plan.select(&layout(), &[2, 4]).unwrap();
                let x = model.embed(&[3, 1, 4, 1, 5]).unwrap();
                let (y, saved) = model.run_to_end(end, &x, &plan, &selection, Gradient::Wanted).unwrap();
                [numbers(&y), numbers(&model.vjp_to_end(saved, &plan, &selection, &y).unwrap())]
            };
            assert_eq!(upper(&model), upper(&whole), "{end}");
            if end > 0 {
                let plan = model.plan(&layout()).unwrap();
                let error = model.run(end - 1..4, &model.embed(&[3, 1, 4, 1, 5]).unwrap(), &plan).unwrap_err();
                assert!(error.to_string().contains(&format!("block {} was let go", end - 1)), "{error}");
            }
        }
    }
}
