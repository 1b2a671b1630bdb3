//! What is made for machines with a GPU, on the CPU: `bipo check` against the tensor path that GPUs take, and `bipo bench`.

use std::path::Path;
use std::process::{Command, Output};

use bipo::steering::vector::SteeringVector;
use serde_json::Value;

use crate::cli::json;

use crate::cli::{Place, assert_ok, fixture};

fn bipo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bipo")).args(args).output().unwrap()
}

#[test]
fn the_tensor_path_agrees_with_the_cpu_on_every_architecture_and_dtype() {
    let result = json(&bipo(&["check", "--device", "cpu", "--json", "--quiet"]));
    assert_eq!(result["passed"], true, "{result}");
    let checks = result["checks"].as_array().unwrap();
    for architecture in ["llama", "llama, tied embeddings", "llama, biases", "mistral, sliding window", "qwen2", "qwen3"] {
        for dtype in ["f32", "bf16", "f16"] {
            let of = |check: &&Value| check["model"] == architecture && check["dtype"] == dtype;
            let whats: Vec<&Value> = checks.iter().filter(of).map(|check| &check["what"]).collect();
            for what in ["logits", "log-probs", "gradient", "gradient, prompt cached"] {
                assert!(whats.contains(&&Value::from(what)), "{architecture}, {dtype}: {whats:?}");
            }
        }
    }
    assert_eq!(checks.iter().filter(|check| check["what"].as_str().unwrap().starts_with("48 steps")).count(), 9);
    // Coarser types are another path: there, nothing is the same to the bit.
    let coarse = checks.iter().filter(|check| check["dtype"] != "f32");
    assert!(coarse.clone().count() > 80 && coarse.clone().all(|check| check["difference"].as_f64().unwrap() > 0.0));
}

#[test]
fn a_bench_of_a_tiny_shape_measures_everything_it_names() {
    let flags = ["--shape", "tiny", "--device", "cpu", "--seconds", "0.1", "--new-tokens", "4", "--batch-size", "2"];
    let args = [&["bench", "--json", "--quiet"][..], &flags, &["--prompt-tokens", "9", "--response-tokens", "6"]].concat();
    let result = json(&bipo(&args));
    let number =
        |pointer: &str| result.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {result}"));
    for pointer in ["/load_s", "/matmul_flops_per_s", "/training/steps_per_s", "/training/flops_per_s", "/peak_memory_bytes"] {
        assert!(number(pointer) > 0.0, "{pointer}");
    }
    // A prompt of 9 and two responses of 6, of which the last token predicts nothing.
    assert_eq!(number("/training/tokens_a_step"), 2.0 * (9.0 + 5.0 + 5.0));
    let share = number("/training/flops_per_s") / number("/matmul_flops_per_s");
    assert!((number("/training/share_of_matmul") / share - 1.0).abs() < 1e-9);
    // 4 blocks of 2·64·64 + 2·64·32 + 3·64·176 numbers, and two embeddings of 320·64, in f32.
    assert_eq!(number("/weights_bytes"), 4.0 * (4.0 * 46_080.0 + 40_960.0));
    let sweeps: Vec<(u64, u64)> = result["sweeps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sweep| (sweep["magnitudes"].as_u64().unwrap(), sweep["tokens"].as_u64().unwrap()))
        .collect();
    assert_eq!(sweeps, [(1, 4), (5, 20), (9, 36)]);
    let table =
        String::from_utf8(bipo(&args.iter().filter(|arg| **arg != "--json").copied().collect::<Vec<_>>()).stdout).unwrap();
    assert!(table.contains("2 pairs of 9+6 tokens") && table.contains("sweep of 9"), "{table}");
}

#[test]
fn a_bench_names_the_dtype_that_it_computes_in() {
    let flags = ["--shape", "tiny", "--device", "cpu", "--seconds", "0.1", "--new-tokens", "2", "--batch-size", "1"];
    let bench = |more: &[&str]| json(&bipo(&[&["bench", "--json", "--quiet"][..], &flags, more].concat()));
    let bf16 = bench(&["--dtype", "bf16"]);
    // Matrices of two bytes a number, as in the test above.
    assert_eq!(
        (bf16["dtype"].as_str(), bf16["weights_bytes"].as_f64()),
        (Some("bf16"), Some(2.0 * (4.0 * 46_080.0 + 40_960.0)))
    );
    assert_eq!(bench(&[])["dtype"], "f32");
}

#[test]
fn a_vector_records_the_dtype_and_the_device_that_it_was_computed_with() {
    for (flags, dtype) in [(&[][..], "f32"), (&["--dtype", "bf16"][..], "bf16")] {
        let place = Place::new();
        assert_ok(&place.train("out", &[&["--model", &fixture("llama"), "--device", "cpu"][..], flags].concat()));
        let vector = SteeringVector::read(&place.path("out/steering_vector.safetensors"), None).unwrap();
        let training = vector.metadata.training.unwrap();
        assert_eq!((&training["dtype"], &training["device"]), (&Value::from(dtype), &Value::from("cpu")));
        let settings: Value = serde_json::from_slice(&std::fs::read(place.path("out/config.json")).unwrap()).unwrap();
        assert_eq!((&settings["dtype"], &settings["device"]), (&training["dtype"], &training["device"]));
    }
}

#[test]
fn results_record_what_auto_came_to() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let model = fixture("llama");
    let vector = ["--vector", "out/steering_vector.safetensors", "--magnitudes", "1", "--max-new-tokens", "2", "--json"];
    let run = |command: &str, more: &[&str]| {
        json(&place.bipo(&[&[command, "--quiet", "--model", &model, "--device", "cpu"], more].concat()))
    };
    let eval = |more: &[&str]| run("eval", &[&vector, &["--dataset", "pairs.csv", "--bootstrap", "10"][..], more].concat());
    let steer = |more: &[&str]| run("steer", &[&vector, &["--prompt", "a"][..], more].concat())["run"]["model"].clone();
    for (flags, dtype) in [(&[][..], "f32"), (&["--dtype", "bf16"][..], "bf16")] {
        let settings = eval(flags)["settings"].clone();
        assert_eq!((&settings["dtype"], &settings["device"]), (&dtype.into(), &"cpu".into()), "{flags:?}");
    }
    assert_eq!(steer(&[])["weights"], "dense");
    assert_eq!(steer(&["--weights", "quantized"])["weights"], "quantized");
    let data = ["--dataset", "pairs.csv", "--max-steps", "4", "--batch-size", "2", "--methods", "caa", "--at", "kl=0.002"];
    let compared = run("compare", &[&data[..], &["--max-new-tokens", "2", "--bootstrap", "10", "--json"]].concat());
    let settings = &compared["report"]["settings"];
    assert_eq!((&settings["dtype"], &settings["device"]), (&"f32".into(), &"cpu".into()));
    let vector = SteeringVector::read(&place.path("bipo_compare/caa.safetensors"), None).unwrap();
    assert_eq!(vector.metadata.training.unwrap()["weights"], "dense");
}

#[cfg(target_os = "linux")]
#[test]
fn the_script_for_gpus_checks_and_measures_this_program_on_the_cpu_and_reports_what_fails() {
    let dir = tempfile::tempdir().unwrap();
    let check = |more: &[&str]| -> (Output, Value) {
        let path = dir.path().join("report.json");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu-check.sh");
        let flags = ["--device", "cpu", "--shapes", "tiny", "--seconds", "0.1", "--new-tokens", "2", "--no-torch"];
        let mut command = Command::new(script);
        command.arg(env!("CARGO_BIN_EXE_bipo")).args(flags).args(more).arg("--output").arg(&path);
        let output = command.output().unwrap();
        let report = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        (output, report)
    };
    let (output, report) = check(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["passed"], true);
    assert_eq!(report["parts"]["bench tiny"]["result"]["model"], "tiny");
    assert_eq!(report["parts"]["PyTorch tiny"]["status"], "left out");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("checks passed") && table.contains("sweep of 5, tokens/s"), "{table}");
    // A part that is not done in time ends neither the others nor the report.
    let (output, report) = check(&["--limit-s", "0.001"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["passed"], false);
    assert_eq!(report["parts"]["check"]["status"], "timed out");
    assert_eq!(report["parts"]["bench tiny"]["status"], "timed out");
}
