//! Memory that is too small: said before the weights are read, with what helps.

use super::*;

/// A model of one block in `wide`: 537 M numbers that take no room on the disk, 1.1 GB as they are and 2.1 GB as f32.
pub(super) fn wide_model(place: &Place) {
    let dir = place.path("wide");
    fs::create_dir(&dir).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(&fixture("llama")).join(name), dir.join(name)).unwrap();
    }
    let (hidden, vocabulary) = (2048_u64, 1_u64 << 18);
    let config = json!({"model_type": "llama", "hidden_size": hidden, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": vocabulary,
        "max_position_embeddings": 128, "tie_word_embeddings": true});
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let block = |name: &str, shape: &[u64]| (format!("model.layers.0.{name}.weight"), shape.to_vec());
    let tensors = [
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
        block("input_layernorm", &[hidden]),
        block("post_attention_layernorm", &[hidden]),
        block("self_attn.q_proj", &[8, hidden]),
        block("self_attn.k_proj", &[4, hidden]),
        block("self_attn.v_proj", &[4, hidden]),
        block("self_attn.o_proj", &[hidden, 8]),
        block("mlp.gate_proj", &[8, hidden]),
        block("mlp.up_proj", &[8, hidden]),
        block("mlp.down_proj", &[hidden, 8]),
    ];
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(name, json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let head = safetensors(&serde_json::Value::Object(header).to_string(), &[]);
    fs::write(dir.join("model.safetensors"), &head).unwrap();
    let file = fs::OpenOptions::new().write(true).open(dir.join("model.safetensors")).unwrap();
    file.set_len(head.len() as u64 + end).unwrap();
}

#[test]
fn memory_that_is_too_small_is_said_before_the_weights_are_read_and_the_flag_helps() {
    let place = place();
    wide_model(&place);
    fs::write(place.path("wide.safetensors"), vector(2048)).unwrap();
    let steer =
        ["steer", "--model", "wide", "--vector", "wide.safetensors", "--layer", "0", "--prompt", "a", "--max-new-tokens", "1"];
    let room = format!("-v {}", 3_400_000);
    let refused = limited(&place, &room, &[&steer[..], &["--weights", "dense"]].concat());
    assert_fails(
        &refused,
        1,
        &[
            "not enough memory: about 2.2 GB are needed (weights 2.1 GB, keys and values ",
            "are free; what fits: --weights quantized (",
        ],
    );
    assert_ok(&limited(&place, &room, &[&steer[..], &["--weights", "quantized"]].concat()));
    let train =
        ["train", "--model", "wide", "--dataset", "pairs.csv", "--layer", "0", "--max-steps", "1", "--output-dir", "out"];
    let refused = limited(&place, &room, &[&train[..], &["--weights", "dense"]].concat());
    assert_fails(&refused, 1, &["weights 2.1 GB, activation cache", "--weights quantized"]);
}

/// The allocator would put a first arena of 1 GiB into the limit, and leave nothing for the stack of a chat template.
#[test]
fn a_limit_on_addresses_lets_a_run_through_or_is_named() {
    let place = place();
    let train = |limit: &str, more: &[&str]| {
        let model = fixture("llama");
        let run =
            ["train", "--model", &model, "--dataset", "pairs.csv", "--max-steps", "1", "--output-dir", "out", "--overwrite"];
        limited(&place, &format!("-v {limit}"), &[&run[..], more].concat())
    };
    for limit in ["700000", "1100000", "1300000", "1450000"] {
        assert_ok(&train(limit, &["--threads", "2"]));
    }
    for (limit, threads) in [("120000", "8"), ("120000", "2"), ("200000", "2"), ("300000", "2")] {
        let output = train(limit, &["--threads", threads]);
        assert_fails(&output, 1, &["not enough memory", "ulimit -v"]);
        assert!(!text(&output.stderr).contains("chat template llama"), "{}", text(&output.stderr));
    }
    // What needs neither template nor model needs little.
    assert_ok(&limited(&place, "-v 200000", &["inspect", "v.safetensors", "--threads", "2"]));
}

/// Any token ends a text, so that keys and values have room for 8000 tokens and are needed for one.
#[test]
fn a_sweep_that_memory_has_no_room_for_is_refused_with_what_fits_and_that_runs() {
    let place = place();
    let every_id: Vec<u32> = (0..320).collect();
    let changes: [Change; 2] = [
        ("config.json", &|config| config["max_position_embeddings"] = json!(8192)),
        ("generation_config.json", &|config| config["eos_token_id"] = json!(every_id)),
    ];
    changed_model(&place, "long", &changes);
    let sweep = |magnitudes: &str, new_tokens: &str| {
        let fixed = ["steer", "--model", "long", "--vector", "v.safetensors", "--prompt", "Hello", "--json", "--quiet"];
        let magnitudes = format!("--magnitudes=1..{magnitudes}:1");
        limited(&place, "-v 700000", &[&fixed[..], &[&magnitudes, "--max-new-tokens", new_tokens]].concat())
    };
    let refused = sweep("1000", "8000");
    // Keys and values of 16 numbers each in 3 blocks, f32.
    assert_fails(&refused, 1, &["not enough memory: about 3.1 GB are needed", "keys and values 3.1 GB", "what fits: "]);
    let stderr = text(&refused.stderr);
    let between = |before: &str, after: &str| stderr.split(before).nth(1).and_then(|rest| rest.split(after).next()).unwrap();
    // What the program itself takes of the addresses differs from run to run.
    let most_of = |number: &str| (number.parse::<usize>().unwrap() * 3 / 4).to_string();
    assert_ok(&sweep(&most_of(between("what fits: ", " magnitudes (")), "8000"));
    assert_ok(&sweep("1000", &most_of(between("or --max-new-tokens ", " ("))));
}
