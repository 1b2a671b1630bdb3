//! Tests of `optim`.

use serde_json::Value;

use super::*;

#[test]
fn steps_and_rates_equal_those_of_torch_and_transformers() {
    let text = include_str!("../../tests/fixtures/adamw.json");
    let recorded: Value = serde_json::from_str(text).unwrap();
    let floats = |value: &Value| -> Vec<f32> { value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect() };
    let runs = [
        ("cosine", Scheduler::Cosine),
        ("linear", Scheduler::Linear),
        ("constant", Scheduler::Constant),
        ("cosine_without_warmup", Scheduler::Cosine),
    ];
    for (name, scheduler) in runs {
        let run = &recorded["runs"][name];
        let schedule = Schedule {
            scheduler,
            lr: recorded["peak_lr"].as_f64().unwrap(),
            warmup_steps: run["warmup_steps"].as_u64().unwrap() as usize,
            total_steps: recorded["total_steps"].as_u64().unwrap() as usize,
        };
        let mut parameter = floats(&recorded["parameter"]);
        let mut optimiser = AdamW::new(parameter.len(), recorded["weight_decay"].as_f64().unwrap());
        for (step, gradient) in recorded["gradients"].as_array().unwrap().iter().enumerate() {
            let lr = schedule.at(step);
            assert!((lr - run["lr"][step].as_f64().unwrap()).abs() < 1e-15, "{name}: rate of step {step} is {lr}");
            optimiser.step(&mut parameter, &floats(gradient), lr);
            for (p, expected) in parameter.iter().zip(floats(&run["parameter_after"][step])) {
                assert!((p - expected).abs() < 1e-6, "{name}: step {step}: {p} is not {expected}");
            }
        }
    }
}

#[test]
fn clipping_scales_a_long_gradient_and_leaves_a_short_one() {
    let mut long = vec![3.0, 4.0];
    assert_eq!(clip_grad_norm(&mut long, Some(1.0)), 5.0);
    assert!((l2_norm(&long) - 1.0).abs() < 1e-6);
    let mut short = vec![0.3, 0.4];
    clip_grad_norm(&mut short, Some(1.0));
    assert_eq!(short, [0.3, 0.4]);
    let mut unclipped = vec![3.0, 4.0];
    clip_grad_norm(&mut unclipped, None);
    assert_eq!(unclipped, [3.0, 4.0]);
}
