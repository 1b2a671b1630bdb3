//! Sweeps: several magnitudes generated at once, with keys and values kept.

use super::*;

#[test]
fn a_sweep_at_any_layers_and_positions_equals_single_runs_and_full_passes() {
    for (nth, name) in ARCHITECTURES.into_iter().enumerate() {
        let model = load(name, DType::F32);
        let mut ids = Recorded::of(name).ids("input_ids");
        if WITHOUT_GREEDY.contains(&name) {
            // No text outgrows the trained context, past which all keys would change.
            ids.truncate(6);
        }
        let sets = layer_sets(&model);
        for (index, (positions, spans)) in rules().into_iter().enumerate() {
            // Some families have every rule at each set of layers, the others at one set or another.
            let whole = ["llama", "mistral", "qwen3"].contains(&name);
            let turn = (nth + index) % sets.len();
            for layers in sets.iter().enumerate().filter(|(at, _)| whole || *at == turn).map(|(_, layers)| layers) {
                let v = some_vector(layers.as_slice().len() * model.config.hidden_size, 7);
                let told = told(0..ids.len() + 1, ids.len(), (positions, spans));
                let prompt_spans =
                    |told: Vec<bool>| PromptSpans { prompt: told[..ids.len()].to_vec(), generated: told[ids.len()] };
                let prompt = EncodedPrompt { ids: ids.clone(), spans: told.map(prompt_spans) };
                assert_sweep(name, &model, &prompt, &layers.split(&v), (positions, spans));
            }
        }
    }
}

fn assert_sweep(
    name: &str,
    model: &Model,
    prompt: &EncodedPrompt,
    vectors: &BTreeMap<usize, Vec<f32>>,
    rules: (Positions, Option<Spans>),
) {
    let options = GenerateOptions { positions: rules.0, ..common::greedy(6, &[]) };
    let magnitudes = [-1.0, 0.0, 1.5];
    let logits = next_token_logits(model, prompt, vectors, &magnitudes, &options).unwrap();
    let sweep = generate(model, prompt, vectors, &magnitudes, &options, &mut |_, _| Ok(())).unwrap();
    for (branch, magnitude) in magnitudes.into_iter().enumerate() {
        let single = generate(model, prompt, vectors, &[magnitude], &options, &mut |_, _| Ok(())).unwrap();
        assert_eq!(sweep[branch].token_ids, single[0].token_ids, "{name}, {rules:?} at {magnitude}");
        let scaled = vectors.iter().map(|(layer, v)| (*layer, v.iter().map(|x| magnitude * x).collect())).collect();
        let whole = [&prompt.ids[..], &single[0].token_ids].concat();
        let expected = logits_by_definition(model, &whole, prompt.ids.len(), &scaled, rules);
        let at = |token: usize| expected.get(token).unwrap();
        let worst = difference(&logits.get(branch).unwrap(), &at(prompt.ids.len() - 1));
        assert!(worst < 2e-4, "{name}, {rules:?} at {magnitude}: logits differ by {worst}");
        for (index, token) in single[0].token_ids.iter().enumerate() {
            let row = at(prompt.ids.len() - 1 + index).to_vec1::<f32>().unwrap();
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!(best - row[*token as usize] < 1e-3, "{name}, {rules:?} at {magnitude}: token {index} is not the likeliest");
        }
    }
}
