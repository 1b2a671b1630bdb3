//! Numbers under stress: long and short responses, strong preferences, large magnitudes and vectors, wide vocabularies. Every result
//! is finite, or the run stops and says which number is not.

use std::fs;
use std::path::Path;

use bipo::steering::vector::SteeringVector;
use serde_json::{Value, json};

use crate::bytes::safetensors;
use crate::cli::{Place, assert_ok, assert_refused, broken_model, fixture, text};

/// Every number of a run, which has `steps` of them.
fn assert_finite(place: &Place, out: &str, steps: usize) -> Vec<Value> {
    let lines = fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), steps);
    for record in &records {
        for key in ["loss", "margin", "accuracy", "lr", "grad_norm", "vector_norm"] {
            // JSON has no NaN: what is none of it is null.
            assert!(record[key].is_number(), "{key} of {record}");
        }
    }
    let vector = SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap();
    assert!(vector.layers.values().flatten().all(|x| x.is_finite()));
    records
}

fn long_pairs(place: &Place, words: usize) {
    let (good, bad) = ("good day ".repeat(words), "bad night ".repeat(words));
    fs::write(place.path("long.csv"), format!("question,matching,not_matching\nWhy?,{good},{bad}\nWho?,{bad},{good}\n"))
        .unwrap();
}

#[test]
fn responses_of_the_full_context_and_of_one_token_have_finite_losses_at_any_beta() {
    let place = Place::new();
    long_pairs(&place, 400);
    for (beta, lr) in [("0.1", "0.05"), ("10", "0.05"), ("10", "5")] {
        let flags = ["--dataset", "long.csv", "--beta", beta, "--lr", lr, "--batch-size", "1", "--max-length", "512"];
        assert_ok(&place.train("full", &[&flags[..], &["--overwrite"]].concat()));
        let records = assert_finite(&place, "full", 4);
        // Of both responses, their prompt once.
        assert!(records.iter().all(|record| record["tokens"].as_u64().unwrap() > 900), "{records:?}");
        assert!(records[3]["loss"].as_f64().unwrap() >= 0.0);
    }
    // The prompt loses its beginning, so that one token of each response is left; in two rows it is the same.
    let flags = ["--max-length", "3", "--beta", "10", "--batch-size", "1", "--lr", "1", "--response-prefix", ""];
    let output = place.train("one", &flags);
    assert_ok(&output);
    assert!(text(&output.stderr).contains("truncated to 3 tokens"), "{}", text(&output.stderr));
    let records = assert_finite(&place, "one", 6);
    assert!(records.iter().all(|record| record["tokens"].as_u64().unwrap() <= 4), "{records:?}");
}

#[test]
fn responses_that_truncation_makes_equal_are_left_out_and_a_vector_of_length_zero_has_no_direction() {
    let place = Place::new();
    let same = "word ".repeat(300);
    let rows = format!("question,matching,not_matching\nWhy?,{same}a,{same}b\n");
    fs::write(place.path("same.csv"), &rows).unwrap();
    fs::write(place.path("mixed.csv"), format!("{rows}Who?,A friend.,No one.\n")).unwrap();
    let flags = ["--max-length", "64", "--lr", "1", "--batch-size", "1", "--dataset"];
    let refused = place.train("none", &[&flags[..], &["same.csv"]].concat());
    assert_refused(&refused, &flags, "both responses of every pair are the same 64 tokens: raise --max-length");
    let output = place.train("out", &[&flags[..], &["mixed.csv"]].concat());
    assert_ok(&output);
    assert!(text(&output.stderr).contains("1 pairs left out"), "{}", text(&output.stderr));
    assert!(assert_finite(&place, "out", 2).iter().all(|record| record["rows"] == json!([1])));

    let header = "{\"layer.1\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]}}";
    fs::write(place.path("zero.safetensors"), safetensors(header, &[0; 128])).unwrap();
    let refused = place.bipo(&["convert", "zero.safetensors", "unit.safetensors", "--normalize"]);
    assert_refused(&refused, &["--normalize"], "zero");
    let flags = ["--skip", "text,generation", "--baseline", "random", "--json"];
    let model = fixture("llama");
    let args =
        ["eval", "--model", &model, "--vector", "zero.safetensors", "--dataset", "pairs.csv", "--magnitudes", "-100,0,100"];
    let output = place.bipo(&[&args[..], &flags].concat());
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for row in report["rows"].as_array().unwrap() {
        assert_eq!(row["measures"]["margin"]["value"], 0.0, "{row}");
    }
}

/// ‖v‖ = 1e4, where the residuals of the tiny model are about 1.
fn huge_vector(place: &Place) {
    let x = 1e4_f32 / 32_f32.sqrt();
    let bytes: Vec<u8> = (0..32).flat_map(|i| (if i % 2 == 0 { x } else { -x }).to_le_bytes()).collect();
    let header = "{\"layer.1\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]}}";
    fs::write(place.path("huge.safetensors"), safetensors(header, &bytes)).unwrap();
}

#[test]
fn a_vector_of_norm_10000_and_magnitudes_of_100_are_finite_in_every_command() {
    let place = Place::new();
    huge_vector(&place);
    let model = fixture("llama");
    for dtype in ["f32", "bf16", "f16"] {
        let common = ["--model", &model, "--vector", "huge.safetensors", "--magnitudes", "-100,-1,0,1,100", "--dtype", dtype];
        let steer = ["--prompt", "Hello", "--max-new-tokens", "8", "--json"];
        let output = place.bipo(&[&["steer"][..], &common, &steer].concat());
        assert_ok(&output);
        let results: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(results["results"].as_array().unwrap().len(), 5);
        let eval = ["--dataset", "pairs.csv", "--max-new-tokens", "4", "--prompt", "Hello", "--text"];
        let words = Path::new(&fixture("eval")).join("text.txt");
        let output = place.bipo(&[&["eval"][..], &common, &eval, &[words.to_str().unwrap(), "--json"]].concat());
        assert_ok(&output);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for row in report["rows"].as_array().unwrap() {
            let measures = row["measures"].as_object().unwrap();
            assert!(measures.contains_key("margin") && measures.contains_key("perplexity"), "{row}");
            assert!(!row["measures"].to_string().contains("null"), "{row}");
        }
    }
    for flags in [&["--beta", "10"][..], &["--beta", "0.1", "--direction", "both"]] {
        assert_ok(&place.train(
            "out",
            &[&["--overwrite", "--init", "huge.safetensors", "--lr", "100", "--batch-size", "1"], flags].concat(),
        ));
        assert_finite(&place, "out", 10);
    }
}

#[test]
fn a_step_that_would_make_the_vector_infinite_stops_and_keeps_the_last_one() {
    let place = Place::new();
    let output = place.train("out", &["--lr", "3e38", "--weight-decay", "0", "--warmup-steps", "0", "--scheduler", "constant"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("not finite"), "{}", text(&output.stderr));
    let vector = SteeringVector::read(&place.path("out/steering_vector.safetensors"), None).unwrap();
    assert!(vector.layers.values().flatten().all(|x| x.is_finite()));
}

/// Weights of another kind of model: hidden size 8, one token in 256k.
fn wide_model(place: &Place) -> String {
    let dir = place.path("wide");
    fs::create_dir(&dir).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(&fixture("llama")).join(name), dir.join(name)).unwrap();
    }
    let (vocabulary, h) = (262_144, 8);
    let config = json!({"model_type": "llama", "hidden_size": h, "intermediate_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": vocabulary, "max_position_embeddings": 128, "tie_word_embeddings": true});
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut tensors =
        vec![("model.embed_tokens.weight".to_owned(), vec![vocabulary, h]), ("model.norm.weight".to_owned(), vec![h])];
    for block in 0..2 {
        for name in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push((format!("model.layers.{block}.{name}.weight"), vec![h]));
        }
        for name in [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        ] {
            tensors.push((format!("model.layers.{block}.{name}.weight"), vec![h, h]));
        }
    }
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    // Any numbers of both signs; a linear congruence is one.
    let mut state = 1_u32;
    for (name, shape) in tensors {
        let (start, count) = (data.len(), shape.iter().product::<usize>());
        for _ in 0..count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend(((state >> 8) as f32 / 16_777_216.0 - 0.5).to_le_bytes());
        }
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    fs::write(dir.join("model.safetensors"), safetensors(&Value::Object(header).to_string(), &data)).unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn a_vocabulary_of_256k_trains_measures_and_generates() {
    let place = Place::new();
    let model = wide_model(&place);
    assert_ok(&place.train("out", &["--model", &model, "--layer", "0", "--beta", "10"]));
    let records = assert_finite(&place, "out", 6);
    assert!(records[5]["vector_norm"].as_f64().unwrap() > 0.0);
    let vector = ["--model", &model, "--vector", "out/steering_vector.safetensors", "--magnitudes", "-100,0,100"];
    assert_ok(&place.bipo(&[&["steer"][..], &vector, &["--prompt", "Hello", "--max-new-tokens", "4"]].concat()));
    let eval = ["--dataset", "pairs.csv", "--skip", "generation,text", "--json"];
    let output = place.bipo(&[&["eval"][..], &vector, &eval].concat());
    assert_ok(&output);
}

#[test]
fn a_weight_that_f16_cannot_hold_is_named_with_its_tensor() {
    let place = Place::new();
    // The last matrix's last element becomes 1e5; behind it lie the 32 numbers of the last norm.
    let model = broken_model(&place, "large", "model.safetensors", |mut bytes| {
        let end = bytes.len() - 4 * 32;
        bytes[end - 4..end].copy_from_slice(&1e5_f32.to_le_bytes());
        bytes
    });
    let refused = place.train("out", &["--model", &model, "--dtype", "f16"]);
    let stderr = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("v_proj.weight") && stderr.contains("holds 1e5, but f16 ends at 65504: use bf16 or f32 (--dtype)"),
        "{stderr}"
    );
    for dtype in ["f32", "bf16"] {
        let flags = ["--model", &model, "--dtype", dtype];
        assert_ok(&place.train(dtype, &flags));
    }
}

/// What a device whose sums have no fixed order (atomic additions) may change: every step takes all rows, in another order.
#[test]
fn sums_in_another_order_move_the_vector_by_rounding_alone() {
    let place = Place::new();
    let rows = fs::read_to_string(place.path("pairs.csv")).unwrap();
    let (header, rows) = rows.split_once('\n').unwrap();
    let reversed: Vec<&str> = rows.lines().rev().collect();
    fs::write(place.path("reversed.csv"), format!("{header}\n{}\n", reversed.join("\n"))).unwrap();
    let vector = |out: &str, more: &[&str]| {
        let flags = ["--epochs", "20", "--batch-size", "5"];
        assert_ok(&place.train(out, &[&flags, more].concat()));
        SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap().layers.remove(&1).unwrap()
    };
    let distance = |a: &[f32], b: &[f32]| {
        let squares = |of: &mut dyn Iterator<Item = f32>| of.map(|x| f64::from(x * x)).sum::<f64>();
        (squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut a.iter().copied())).sqrt()
    };
    let one = vector("one", &[]);
    let (order, seed) = (vector("order", &["--dataset", "reversed.csv"]), vector("seed", &["--seed", "12"]));
    assert!(distance(&one, &order) < 1e-4, "{}", distance(&one, &order));
    assert!(distance(&one, &seed) > 1e-2, "{}", distance(&one, &seed));
}
