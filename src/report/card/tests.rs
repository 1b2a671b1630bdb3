//! Tests of the model card: one layer and several, hostile names, and what a card never contains.

use serde_json::json;

use super::*;
use crate::steering::vector::Metadata;
use crate::text::spans::Spans;

fn example() -> SteeringVector {
    let training = json!({
        "layer": 1, "lr": 0.01, "system": "Be kind.\nAlways | ever.", "template": "auto", "limit": null,
        "dataset": {"name": "formal", "sha256": "ab12", "pairs": 200, "skipped_rows": 2},
        "eval_dataset": {"name": "formal-heldout", "sha256": "cd34", "pairs": 48, "skipped_rows": 0},
        "steps": 50, "final_loss": 0.5, "final_margin": 0.25, "best_epoch": 2, "heldout": null,
    });
    SteeringVector {
        layers: [(1, vec![3.0, 4.0])].into(),
        metadata: Metadata {
            base_model: Some("owner/Name-7B".into()),
            model_type: Some("llama".into()),
            num_hidden_layers: Some(4),
            positions: Positions::All,
            training: Some(training),
            ..Metadata::default()
        },
    }
}

fn epoch(epoch: usize, margin: f64) -> EpochRecord {
    let heldout =
        Heldout { positive_margin: margin, negative_margin: -margin, positive_right: 0.75, negative_right: 0.5, loss: 0.6 };
    EpochRecord { epoch, step: 25 * epoch, heldout: Some(heldout), best: true }
}

fn card(vector: &SteeringVector) -> String {
    model_card(vector, "v.safetensors", &[epoch(1, 0.25), epoch(2, 0.5)], Some("training.png"))
}

/// Returns the lines between the two `---`.
fn block(card: &str) -> &str {
    card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap().0
}

#[test]
fn the_metadata_block_names_library_base_model_and_tags_and_no_licence() {
    let card = card(&example());
    assert_eq!(
        block(&card),
        "library_name: bipo\nbase_model: owner/Name-7B\ntags:\n- bipo\n- steering-vector\n- activation-steering\n\
         - preference-optimization"
    );
}

#[test]
fn a_base_model_or_data_set_that_the_hub_cannot_have_is_left_out_of_the_block() {
    let mut vector = example();
    for name in ["my-model", "a/b/c", "x: y/z", "a/b\nlicense: mit", "-/b", "a/#b", "/home/me/model"] {
        vector.metadata.base_model = Some(name.into());
        assert!(!block(&card(&vector)).contains("base_model"), "{name:?}");
        vector.metadata.training.as_mut().unwrap()["dataset"]["name"] = json!(format!("hf:{name}"));
        assert!(!block(&card(&vector)).contains("datasets"), "{name:?}");
    }
    vector.metadata.base_model = Some("SmolLM2-135M-Instruct.Q4_1.gguf".into());
    assert!(block(&card(&vector)).contains("\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\n"));
}

#[test]
fn a_data_set_of_the_hub_is_in_the_block_by_its_repository() {
    let mut vector = example();
    for (name, repo) in [
        ("hf:owner/set@v1:test", "owner/set"),
        ("hf:owner/set:data/x.csv", "owner/set"),
        ("truthfulqa", "truthfulqa/truthful_qa"),
    ] {
        vector.metadata.training.as_mut().unwrap()["dataset"]["name"] = json!(name);
        assert!(block(&card(&vector)).contains(&format!("\ndatasets:\n- {repo}\n")), "{name}");
    }
    vector.metadata.training.as_mut().unwrap()["dataset"]["name"] = json!("power-seeking");
    assert!(!block(&card(&vector)).contains("datasets"));
}

#[test]
fn held_out_margins_make_a_row_an_epoch_and_the_kept_one_is_marked() {
    let card = card(&example());
    assert!(card.contains("| 1 | 25 | +0.2500 | 75 % [61, 85] | -0.2500 | 50 % [36, 64] | 0.6000 |\n"), "{card}");
    assert!(card.contains("| 2 (kept) | 50 | +0.5000 | 75 % [61, 85] | -0.5000 | 50 % [36, 64] | 0.6000 |\n"), "{card}");
    assert!(card.contains("50 steps, loss 0.5000, margin +0.2500"));
    assert!(card.contains("formal-heldout, 48 pairs"));
    let bare = model_card(&example(), "v.safetensors", &[], None);
    assert!(card.contains("![Loss, margin and norm of the vector at each step](training.png)\n") && !bare.contains("!["));
    assert!(bare.contains("No held-out pairs were scored") && !bare.contains("| epoch |"));
}

#[test]
fn settings_are_on_one_line_each_and_cannot_break_the_table() {
    let card = card(&example());
    assert!(card.contains("| learning rate | 0.01 |\n"));
    assert!(card.contains(r#"| system | "Be kind.\\nAlways \| ever." |"#), "{card}");
    assert!(card.contains("| dataset | formal, 200 pairs (2 rows skipped), SHA-256 ab12 |\n"));
    assert!(!card.contains("| limit |"));
}

#[test]
fn folders_of_this_machine_are_in_no_card() {
    let mut vector = example();
    let training = vector.metadata.training.as_mut().unwrap();
    training["template"] = json!("/home/me/templates/mine.jinja");
    training["init"] = json!("../runs/first/v.safetensors");
    let card = card(&vector);
    assert!(card.contains("| template | mine.jinja |\n") && card.contains("| init | v.safetensors |\n"), "{card}");
    assert!(!card.contains("/home") && !card.contains("runs"), "{card}");
}

#[test]
fn several_layers_read_well() {
    let mut vector = example();
    vector.layers = [(1, vec![3.0, 4.0]), (2, vec![0.0, 1.0]), (3, vec![0.0, 2.0])].into();
    let card = card(&vector);
    assert!(card.contains("3 steering vectors of 2 numbers for [owner/Name-7B]"), "{card}");
    assert!(
        card.contains("Each is added, times a magnitude that you choose, to the output of its block: 1, 2 and 3 (0-based)")
    );
    for row in ["| `layer.1` | 2 | 5.0000 |", "| `layer.2` | 2 | 1.0000 |", "| `layer.3` | 2 | 2.0000 |"] {
        assert!(card.contains(row), "{row}");
    }
}

#[test]
fn what_other_programs_cannot_do_is_said() {
    let mut vector = example();
    assert!(card(&vector).contains("--control-vector-scaled v.gguf:2"));
    vector.metadata.positions = Positions::Response;
    assert!(card(&vector).contains("made for the response's tokens alone: the hook and llama.cpp add it at every token"));
    (vector.metadata.positions, vector.metadata.spans) = (Positions::All, Some(Spans::User));
    assert!(card(&vector).contains("(0-based), at the words of the user's messages alone. "), "{}", card(&vector));
    assert!(card(&vector).contains("made for the words of the user's messages alone: the hook and llama.cpp add it at every"));
    vector.layers = [(0, vec![1.0, 0.0])].into();
    assert!(
        !card(&vector).contains("--control-vector") && card(&vector).contains("cannot add a vector to the output of block 0")
    );
}

#[test]
fn names_with_spaces_and_quotes_stay_one_argument_and_one_string() {
    let mut vector = example();
    vector.metadata.base_model = Some(r#"it's "mine"; rm -rf"#.into());
    let card = card(&vector);
    assert!(card.contains(r#"--model 'it'\''s "mine"; rm -rf' --vector"#), "{card}");
    assert!(card.contains(r#"from_pretrained("it's \"mine\"; rm -rf")"#), "{card}");
}

#[test]
fn a_foreign_readme_is_left_alone_and_a_card_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CARD_FILE);
    std::fs::write(&path, "# My project\n\nlibrary_name: bipo\n").unwrap();
    assert!(!write(dir.path(), &card(&example())).unwrap());
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("# My project"));
    std::fs::remove_file(&path).unwrap();
    assert!(write(dir.path(), &card(&example())).unwrap());
    assert!(write(dir.path(), &model_card(&example(), "w.safetensors", &[], None)).unwrap());
    assert!(std::fs::read_to_string(&path).unwrap().contains("w.safetensors"));
}

#[test]
fn a_vector_without_metadata_has_a_card_all_the_same() {
    let vector = SteeringVector { layers: [(5, vec![1.0])].into(), metadata: Metadata::default() };
    let card = model_card(&vector, "v.safetensors", &[], None);
    assert!(card.contains("# Steering vector for MODEL\n") && card.contains("One steering vector of 1 numbers for its model"));
    assert!(!card.contains("## Results") && !card.contains("## Training"));
}

#[test]
fn a_mean_difference_says_that_it_was_not_learned_and_cites_its_own_paper() {
    let mut vector = example();
    vector.metadata.training = Some(json!({
        "method": "caa", "caa_positions": "last", "dataset": {"name": "formal", "sha256": "ab12", "pairs": 200},
        "eval_dataset": {"name": "formal-heldout", "sha256": "cd34", "pairs": 48}, "compared_pairs": 199,
        "heldout": epoch(1, 0.25).heldout,
    }));
    let card = model_card(&vector, "v.safetensors", &[], None);
    assert!(block(&card).ends_with("- activation-steering\n- contrastive-activation-addition"));
    for expected in [
        "It was not learned: it is the mean difference",
        "at the last token of each before its end of turn",
        "https://arxiv.org/abs/2312.06681",
        "the mean margin is +0.2500 at direction +1 (positive for 75 % [61, 85] of the pairs) and -0.2500 at −1 (negative for 50 % [36, 64]; ",
        "| caa positions | last |",
        "Steering Llama 2 via Contrastive Activation Addition",
    ] {
        assert!(card.contains(expected), "no {expected} in {card}");
    }
    for other in ["2406.00045", "epoch-NN", "compared pairs"] {
        assert!(!card.contains(other), "{other} in {card}");
    }
}

#[test]
fn the_factor_on_the_vector_is_told_in_words() {
    let told = |factor: Value| settings(&json!({"seed": 1, "factor": factor}));
    let seed = ("seed".to_owned(), "1".to_owned());
    let factor = |words: &str| ("factor".to_owned(), words.to_owned());
    assert_eq!(told(json!({"drawn": [2.0, 0.5]})), [seed.clone(), factor("drawn from 2, 0.5")]);
    let learned = factor("learned from 4 times the root of the hidden size, at rate 20");
    assert_eq!(told(json!({"learned": {"scale": 4.0, "lr": 20.0}})), [seed.clone(), learned]);
    // Nobody's metadata breaks a card.
    assert_eq!(told(json!({"other": 1})), [seed]);
}
