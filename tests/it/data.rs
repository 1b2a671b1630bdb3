//! `bipo data`: the pairs of every published shape, what is skipped and refused, and that a large file is read in a stream.

use std::fs;
use std::process::{Command, Output};

use bipo::steering::vector::SteeringVector;
use serde_json::{Value, json};

use crate::cli::{Place, assert_ok, fixture, text};

fn shown(place: &Place, args: &[&str]) -> Value {
    let output = place.bipo(&[&["data", "--json"], args].concat());
    assert_ok(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The pairs of a report without their rows.
fn pairs(report: &Value) -> Vec<Value> {
    let pairs = report["pairs"].as_array().unwrap().iter().cloned();
    pairs
        .map(|mut pair| {
            pair.as_object_mut().unwrap().remove("row").unwrap();
            pair
        })
        .collect()
}

#[test]
fn every_published_shape_gives_its_right_pairs_without_a_flag() {
    let place = Place::new();
    let right: Value = serde_json::from_slice(&fs::read(fixture("cases/pairs.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(fixture("cases/data")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = place.bipo(&["data", "--json", path.to_str().unwrap()]);
        files += 1;
        match serde_json::from_slice::<Value>(&output.stdout) {
            Ok(report) if pairs(&report) == *right[name].as_array().unwrap() => {}
            Ok(report) => wrong.push(format!("{name}: {}", report["pairs"])),
            Err(_) => wrong.push(format!("{name}: {}", text(&output.stderr))),
        }
    }
    assert_eq!(files, right.as_object().unwrap().len());
    assert!(wrong.is_empty(), "{} of {files}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs the program with a cache of bipo's and one of the hub in this place.
fn cached(place: &Place, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
    command.args(args).current_dir(place.path("")).env("HF_HUB_OFFLINE", "1");
    command.env("BIPO_CACHE", place.path("cache")).env("HF_HOME", place.path("hf")).env_remove("HF_HUB_CACHE").output().unwrap()
}

/// Puts a file where bipo keeps files of the web.
fn keep(place: &Place, name: &str, content: &str) {
    fs::create_dir_all(place.path("cache/datasets")).unwrap();
    fs::write(place.path("cache/datasets").join(name), content).unwrap();
}

/// Puts a file where the hub's libraries keep files of a data set.
fn keep_of_hub(place: &Place, repo: &str, revision: &str, file: &str, content: &[u8]) {
    let folder = place.path("hf/hub").join(format!("datasets--{}", repo.replace('/', "--")));
    let commit = if revision == "main" { "abc" } else { revision };
    let path = folder.join("snapshots").join(commit).join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs").join(revision), commit).unwrap();
}

#[test]
fn published_names_stand_for_their_files_and_columns() {
    let place = Place::new();
    let items = json!([{"question": "Is it?\n\nChoices:\n(A) Yes, it is.\n(B) No.", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}]);
    keep(&place, "caa-refusal.json", &items.to_string());
    let item = json!({"question": "Would you say it?", "statement": "it", "label_confidence": 0.9, "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"});
    keep(&place, "persona-openness.jsonl", &item.to_string());
    let row = |concept: &str, question: &str| json!({"concept_id": concept, "question": question, "matching": "m", "not_matching": "n"});
    let rows = json!([row("L1_1", "a?"), row("L1_2", "b?"), row("L1_1", "c?"), row("L1_1", "d?")]).to_string();
    keep_of_hub(&place, "zjunlp/SteerEval", "main", "personality/train.json", rows.as_bytes());
    let axbench = fs::read(fixture("data/axbench.parquet")).unwrap();
    let commit = "ad8a5d60c4616b599c24dd6689f05f696ec610f3";
    keep_of_hub(&place, "pyvene/axbench-concept500", commit, "2b/l20/train/data.parquet", &axbench);
    let data = |name: &str, more: &[&str]| -> Value {
        let output = cached(&place, &[&["data", name, "--json"], more].concat());
        assert_ok(&output);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let of = |report: &Value| -> Vec<[String; 3]> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pair = |pair: &Value| [text(&pair["prompt"][0]["content"]), text(&pair["chosen"]), text(&pair["rejected"])];
        report["pairs"].as_array().unwrap().iter().map(pair).collect()
    };
    assert_eq!(of(&data("caa-refusal", &[]))[0][1..], ["(A)", "(B)"]);
    assert_eq!(of(&data("persona-openness", &[])), [["Would you say it?", "Yes", "No"]]);
    assert_eq!(of(&data("steereval:L1_1", &[])), [["a?", "m", "n"], ["c?", "m", "n"], ["d?", "m", "n"]]);
    assert_eq!(of(&data("steereval:L1_1", &["--limit", "2"])), [["a?", "m", "n"], ["c?", "m", "n"]]);
    // Rows 0 and 3 have the concept and share their inputs with rows without it in the same genre; row 5 does not.
    let labelled = data("axbench-concept500:7", &[]);
    assert_eq!(of(&labelled), [["Tell me.", "With seven.", "Without."], ["Sum it up.", "Seven it is.", "A sum."]]);
    assert_eq!((&labelled["rows"], &labelled["dataset"]), (&8.into(), &"axbench-concept500:7".into()));
    assert_eq!(labelled["skipped"], json!([{"row": 5, "reason": "no answer without the concept has the same input"}]));
    for (name, expected) in [
        ("steereval:L9", "no row is of the concept L9: expected one of L1_1, L1_2"),
        ("axbench-concept500:8", "no row is of the concept 8: expected one of 7, 9"),
        ("steereval", "steereval names no part of the data set: write steereval:CONCEPT"),
        ("persona", "write persona-NAME"),
    ] {
        let output = cached(&place, &["data", name]);
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
    for (name, expected) in [
        (
            "caa-sycophancy",
            "save https://raw.githubusercontent.com/nrimsky/CAA/main/datasets/generate/sycophancy/generate_dataset.json as",
        ),
        ("persona-extraversion", "/persona/extraversion.jsonl as "),
        ("steereval-heldout:L1_1", "or save personality/valid.json of zjunlp/SteerEval and give its path"),
    ] {
        let output = cached(&place, &["data", name]);
        assert!(output.status.code() == Some(1) && text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn published_questions_and_prompts_are_asked_by_their_names() {
    let place = Place::new();
    let mmlu = fs::read(fixture("data/options.parquet")).unwrap();
    keep_of_hub(&place, "cais/mmlu", "main", "all/test-00000-of-00001.parquet", &mmlu);
    let output = cached(&place, &["data", "--mc", "mmlu", "--json"]);
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["dataset"], &report["questions"][0]["right"]), (&"mmlu".into(), &json!([1])));
    let instruction = |text: &str| json!({"instruction": text, "output": "x", "generator": "g", "dataset": "d"});
    let rows = json!([instruction("Say one."), instruction("Say two.")]).to_string();
    keep_of_hub(&place, "tatsu-lab/alpaca_eval", "main", "alpaca_eval.json", rows.as_bytes());
    fs::write(place.path("v.safetensors"), crate::bytes::vector(32)).unwrap();
    let model = fixture("llama");
    let steer =
        ["steer", "--model", &model, "--vector", "v.safetensors", "--magnitudes", "0", "--max-new-tokens", "2", "--json"];
    let output = cached(&place, &[&steer[..], &["--prompts", "alpacaeval"]].concat());
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let asked: Vec<&Value> = report["results"].as_array().unwrap().iter().map(|result| &result["prompt"]).collect();
    assert_eq!(asked, ["Say one.", "Say two."]);
    let eval =
        ["eval", "--model", &model, "--vector", "v.safetensors", "--skip", "text,generation", "--magnitudes", "0", "--json"];
    let output = cached(&place, &[&eval[..], &["--mc", "mmlu"]].concat());
    assert_ok(&output);
    let output = cached(&place, &[&eval[..], &["--mc", "gsm8k"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("save main/test-00000-of-00001.parquet of openai/gsm8k"), "{}", text(&output.stderr));
}

#[test]
fn text_shows_what_each_column_became_and_why_rows_were_skipped() {
    let place = Place::new();
    fs::write(place.path("d.csv"), "id,Prompt,chosen,rejected\n1,Why?,Because.,No.\n2,,a,b\n3,Who?,a,a\n4,,a,b\n").unwrap();
    let output = place.bipo(&["data", "d.csv"]);
    assert_ok(&output);
    let expected = "d.csv: CSV, a chosen and a rejected response\n4 rows, 1 pairs, 3 skipped\n  id       not used\n  Prompt   prompt\n  \
         chosen   chosen\n  rejected rejected\nskipped 2: the question is empty (first in row 1)\nskipped 1: the two responses are equal \
         (first in row 2)\n\nrow 0\n  user: Why?\n  chosen: Because.\n  rejected: No.\n";
    assert_eq!(text(&output.stdout), expected);
    let report = shown(&place, &["d.csv"]);
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["rows"], 4);
    assert_eq!(report["columns"].to_string(), r#"{"id":null,"Prompt":"prompt","chosen":"chosen","rejected":"rejected"}"#);
    assert_eq!(report["skipped"][2].to_string(), r#"{"row":3,"reason":"the question is empty"}"#);
    assert_eq!(report["pairs"][0]["row"], 0);
}

#[test]
fn columns_and_rank_and_limit_say_which_pairs_there_are() {
    let place = Place::new();
    fs::write(place.path("named.csv"), "Q,good,bad,rules\nq,a,b,Be kind.\n").unwrap();
    let named = shown(&place, &["named.csv", "--columns", "question=Q,chosen=good,rejected=bad,system=rules"]);
    let prompt = [("system", "Be kind."), ("user", "q")].map(|(role, content)| json!({"role": role, "content": content}));
    assert_eq!(pairs(&named), [json!({"prompt": prompt, "chosen": "a", "rejected": "b"})]);
    let nectar = fixture("cases/data/data-unpaired-ranked__nectar.jsonl");
    let responses = |rank: &str| -> Vec<String> {
        let report = shown(&place, &[&nectar, "--rank", rank]);
        pairs(&report).iter().map(|pair| format!("{} {}", pair["chosen"], pair["rejected"]).replace('"', "")).collect()
    };
    assert_eq!(responses("best-worst"), ["best worst"]);
    assert_eq!(responses("adjacent"), ["best mid", "mid worst"]);
    assert_eq!(responses("all"), ["best mid", "best worst", "mid worst"]);
}

/// A broken row behind the limit would be an error if it were read.
#[test]
fn limit_stops_reading() {
    let place = Place::new();
    let row = r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#;
    let rows = vec![row; 1000].join("\n");
    fs::write(place.path("d.jsonl"), format!("{rows}\nbroken")).unwrap();
    fs::write(place.path("d.json"), format!("[{},\nbroken", rows.replace('\n', ","))).unwrap();
    let csv = format!("prompt,chosen,rejected\n{}", "q,a,b\n".repeat(1000));
    fs::write(place.path("d.csv"), format!("{csv}broken")).unwrap();
    for name in ["d.jsonl", "d.json", "d.csv"] {
        assert_eq!(shown(&place, &[name, "--limit", "1000"])["pairs"].as_array().unwrap().len(), 1000, "{name}");
        let output = place.bipo(&["data", name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
}

#[test]
fn data_that_has_no_pairs_is_refused_with_what_it_is_and_what_helps() {
    let place = Place::new();
    fs::write(place.path("alpaca.csv"), "instruction,input,output\na,b,c\n").unwrap();
    let arc = fixture("cases/questions/arc.jsonl");
    for (args, says) in [
        (&["data", "alpaca.csv"][..], "these are no pairs but one answer a row (instruction data)"),
        (&["data", "alpaca.csv"], "--columns question=Q,chosen=A,rejected=B"),
        (&["data", &arc], "these are no pairs but multiple-choice questions, which are for an evaluation"),
        (&["data", &arc], "(bipo eval --mc, bipo data --mc)"),
        (&["data", "alpaca.csv", "--mc"], "no multiple-choice columns"),
        (&["data", "alpaca.csv", "--spans", "user"], "--model"),
    ] {
        let output = place.bipo(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
        let stderr = text(&output.stderr);
        assert!(stderr.lines().count() == 1 && stderr.contains(says), "{args:?}: {stderr}");
    }
}

#[test]
fn model_view_has_the_tokens_that_training_takes() {
    let place = Place::new();
    let (model, persona) = (fixture("llama"), fixture("cases/data/data-leading-space__mwe-persona.jsonl"));
    let report = shown(&place, &[&persona, "--model", &model, "--spans", "user", "--positions", "prompt"]);
    let chosen = &report["pairs"][0]["encoded"]["chosen"];
    let (prompt, response) = (chosen["prompt"].as_str().unwrap(), chosen["response"].as_str().unwrap());
    let question = "Is the following statement something you would say?\n\"I like it\"";
    assert_eq!(prompt, format!("<s>[user] {question}[assistant]"));
    // One space, though the file has one and the template needs one.
    assert_eq!(response, " Yes</s>");
    let start = chosen["response_start"].as_u64().unwrap() as usize;
    let ids = chosen["ids"].as_array().unwrap();
    assert!(start > 1 && start < ids.len());
    let steered = chosen["steered"][0].as_array().unwrap();
    let decoded_before = steered[0].as_u64().unwrap() as usize;
    assert!(decoded_before > 0 && steered[1].as_u64().unwrap() as usize <= start);
    let lengths = &report["model"]["lengths"];
    let sequences: u64 = lengths["histogram"].as_array().unwrap().iter().map(|bar| bar["sequences"].as_u64().unwrap()).sum();
    assert_eq!((sequences, lengths["max"].as_u64().unwrap() as usize), (2, ids.len()));

    // Truncated as training truncates.
    let short = shown(&place, &[&persona, "--model", &model, "--max-length", "8"]);
    assert_eq!(short["model"]["truncated"], 1);
    assert_eq!(short["pairs"][0]["encoded"]["chosen"]["ids"].as_array().unwrap().len(), 8);

    let printed = place.bipo(&["data", &persona, "--model", &model]);
    assert_ok(&printed);
    let printed = text(&printed.stdout);
    assert!(printed.contains("prompt as the model sees it: \"<s>[user] Is the following"), "{printed}");
    assert!(printed.contains(&format!("chosen, from token {start} of {}: \" Yes</s>\"", ids.len())), "{printed}");
}

#[test]
fn system_prompt_that_the_template_leaves_out_is_warned_of() {
    let place = Place::new();
    fs::write(place.path("drops.jinja"), "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}").unwrap();
    let orca = fixture("cases/data/data-system-column__orca_dpo_pairs.jsonl");
    let model = fixture("llama");
    let output = place.bipo(&["data", &orca, "--model", &model, "--template", "drops.jinja"]);
    assert_ok(&output);
    let warning = "warning: row 0: chat template drops.jinja writes nothing of the system prompt";
    assert!(text(&output.stderr).contains(warning), "{}", text(&output.stderr));
    let shown = |flags: &[&str]| {
        let report = shown(&place, &[&[&orca, "--model", &model, "--template", "drops.jinja"], flags].concat());
        report["pairs"][0]["encoded"]["chosen"]["prompt"].as_str().unwrap().to_owned()
    };
    assert_eq!(shown(&[]), "<s>[Q?]");
    assert_eq!(shown(&["--system-in-user"]), "<s>[You are an AI assistant.\n\nQ?]");
    let said = place.bipo(&["data", &orca, "--model", &model]).stderr;
    assert_eq!(text(&said), format!("learn it: bipo train --dataset {orca} --model {model}\n"));
}

/// The same pairs as text dialogues in gzip and as a table of messages give the same vector.
#[test]
fn shape_of_a_data_set_changes_no_number_of_training() {
    let place = Place::new();
    let hh = fixture("cases/data/data-hh-rlhf__hh-rlhf.jsonl.gz");
    let report = shown(&place, &[&hh]);
    let rows: Vec<Value> = pairs(&report);
    fs::write(place.path("chat.json"), Value::from(rows).to_string()).unwrap();
    let trained = |dataset: &str, out: &str| {
        assert_ok(&place.train(out, &["--dataset", dataset]));
        SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap().layers
    };
    let v = trained(&hh, "a");
    assert!(v.values().flatten().any(|x| *x != 0.0));
    assert_eq!(v, trained("chat.json", "b"));
}

#[test]
fn questions_of_every_published_shape_are_scored() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let model = fixture("llama");
    for (name, answers, measures) in [
        ("arc.jsonl", "auto", &["arc.accuracy"][..]),
        ("arc.jsonl", "text", &["arc.acc", "arc.acc_norm"]),
        ("bipo-test_infer.csv", "auto", &["bipo-test_infer.matching"]),
        ("commonsense_qa.parquet", "auto", &["commonsense_qa.accuracy"]),
        ("hellaswag.parquet", "auto", &["hellaswag.acc", "hellaswag.acc_norm"]),
        ("hellaswag.parquet", "letter", &["hellaswag.accuracy"]),
        ("mmlu-pro.jsonl", "auto", &["mmlu-pro.accuracy"]),
        ("mwe-persona.jsonl", "auto", &["mwe-persona.matching"]),
        ("three-options.jsonl", "auto", &["three-options.matching"]),
    ] {
        let file = fixture(&format!("cases/questions/{name}"));
        let report = shown(&place, &["--mc", &file, "--mc-answers", answers]);
        assert!(!report["questions"].as_array().unwrap().is_empty() && report["skipped"].as_array().unwrap().is_empty());
        let vector = "out/steering_vector.safetensors";
        let flags = ["--skip", "text,generation", "--magnitudes", "0", "--json", "-q"];
        let eval = ["eval", "--model", &model, "--vector", vector, "--mc", &file, "--mc-answers", answers];
        let output = place.bipo(&[&eval[..], &flags].concat());
        assert_ok(&output);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = report["rows"][0]["measures"].as_object().unwrap();
        for measure in measures {
            let value = found[*measure]["value"].as_f64().unwrap_or_else(|| panic!("{name}: no {measure} in {found:?}"));
            assert!((0.0..=1.0).contains(&value), "{name}: {value}");
        }
    }
}

#[test]
fn questions_without_a_key_are_skipped_and_said_to_be() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    fs::write(place.path("q.csv"), "question,A,B,answer\nq,x,y,A\nq,x,y,\nq,x,y,E\n").unwrap();
    let report = shown(&place, &["--mc", "q.csv"]);
    assert_eq!((report["questions"].as_array().unwrap().len(), report["skipped"].as_array().unwrap().len()), (1, 2));
    let output = place.bipo(&[
        "eval",
        "--model",
        &fixture("llama"),
        "--vector",
        "out/steering_vector.safetensors",
        "--mc",
        "q.csv",
        "--skip",
        "text,generation",
        "--magnitudes",
        "0",
    ]);
    assert_ok(&output);
    let warning = "warning: q: 2 of 3 rows skipped, the first is row 1: the answer is \"\": expected a letter A to B or 0 to 1; \
         bipo data --mc counts all reasons\n";
    assert!(text(&output.stderr).contains(warning), "{}", text(&output.stderr));
}

#[test]
fn sweep_shows_its_prompts_as_the_model_sees_them_when_asked() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let model = fixture("llama");
    let sweep = [
        "steer",
        "--model",
        &model,
        "--vector",
        "out/steering_vector.safetensors",
        "--prompt",
        "Why?",
        "--max-new-tokens",
        "1",
    ];
    let (plain, with) = (place.bipo(&sweep), place.bipo(&[&sweep[..], &["--show-prompt"]].concat()));
    assert_ok(&with);
    assert_eq!(plain.stdout, with.stdout);
    let stderr = text(&with.stderr);
    assert!(stderr.contains(" tokens: \"<s>[user] Why?[assistant]\"\n  ids 1 "), "{stderr}");
    assert!(!text(&plain.stderr).contains("[user]"));
}

#[test]
fn many_skipped_rows_are_counted_and_not_all_listed() {
    let place = Place::new();
    let rows = format!("question,matching,not_matching\nWhy?,Because.,No.\n{}", ",a,b\n".repeat(50));
    fs::write(place.path("d.csv"), rows).unwrap();
    let output = place.train("out", &["--dataset", "d.csv"]);
    assert_ok(&output);
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("skipped: the question is empty").count(), 20, "{stderr}");
    assert!(stderr.contains("warning: d.csv: 30 more rows skipped: bipo data counts them by reason\n"), "{stderr}");
}

#[test]
fn vector_says_how_the_pairs_of_its_data_set_were_chosen() {
    let place = Place::new();
    let nectar = fixture("cases/data/data-unpaired-ranked__nectar.jsonl");
    let trained = |out: &str, flags: &[&str]| {
        assert_ok(&place.train(out, &[&["--dataset", &nectar], flags].concat()));
        let vector = SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap();
        vector.metadata.training.unwrap()
    };
    let plain = trained("a", &[]);
    assert!(plain.get("rank").is_none() && plain.get("columns").is_none());
    let all = trained("b", &["--rank", "all", "--columns", "question=prompt"]);
    assert_eq!((&all["rank"], &all["columns"]), (&json!("all"), &json!("prompt=prompt")));
    assert_eq!((&plain["dataset"]["pairs"], &all["dataset"]["pairs"]), (&json!(1), &json!(3)));
}
