//! Tests of `stages`.

use candle_core::DType;

use super::*;
use crate::model::Model;
use crate::model::layout::Layout;
use crate::model::random::MadeOn;
use crate::model::shapes::Shape;
use crate::model::weights::Weights;

fn numbers(x: &Tensor) -> Vec<Vec<f32>> {
    x.to_vec2().unwrap()
}

#[test]
fn blocks_in_several_stages_compute_what_they_do_in_one() {
    let mut model = Model::load(&Weights::random(MadeOn::Host(7)), Shape::Tiny.config(), DType::F32, &Device::Cpu).unwrap();
    let mut layout = Layout::default();
    layout.push_sequence(5);
    let plan = model.plan(&layout).unwrap();
    let (selection, _) = plan.select(&layout, &[2, 4], model.device()).unwrap();
    let x = model.embed(&[3, 1, 4, 1, 5]).unwrap();
    let of = |model: &Model, range: Range<usize>, rows: Queries| {
        let (y, saved) = model.stages.forward(range.clone(), &x, rows, None, Gradient::Wanted).unwrap();
        assert_eq!(saved.len(), range.len());
        let dx = model.stages.vjp(range.end, saved, rows, &y).unwrap();
        assert_eq!(dx.dims(), x.dims());
        [numbers(&y), numbers(&dx)]
    };
    let all = |model: &Model| [0..4, 1..3, 2..2].map(|range| of(model, range, Queries::all(&plan)));
    let selected = |model: &Model| [0..4, 3..4, 4..4].map(|range| of(model, range, Queries::of(&plan, &selection)));
    let of_one = (all(&model), selected(&model));
    assert_eq!(of_one.0[2], [numbers(&x), numbers(&x)]);
    let mut lower = std::mem::take(&mut model.stages.0);
    let upper = lower[0].blocks.split_off(2);
    lower.push(Stage { device: Device::Cpu, blocks: upper });
    model.stages = Stages(lower);
    assert_eq!((all(&model), selected(&model)), of_one);
}
