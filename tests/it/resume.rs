//! Runs that survive: killed, interrupted, out of room, their checkpoint broken, their settings changed. Whatever happens, a
//! run that is resumed leaves the very files of one that never stopped, and no run touches another's.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::cli::{Place, assert_ok, assert_refused, fixture, text};

/// Long enough to be stopped on the way: 25 epochs of 20 steps.
const RUN: [&str; 18] = [
    "--dataset",
    "many.csv",
    "--eval-dataset",
    "pairs.csv",
    "--output-dir",
    "out",
    "--epochs",
    "25",
    "--batch-size",
    "2",
    "--warmup-steps",
    "100",
    "--lr",
    "0.01",
    "--layers",
    "0,1",
    "--direction",
    "uniform",
];

/// What the run leaves where nothing happens to it.
static WHOLE: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let place = new_place();
    assert_ok(&train(&place, &[]));
    let files = files(&place.path("out"));
    assert!(files.contains_key("steering_vector.safetensors") && files.contains_key("training.png"));
    assert_eq!(files["metrics.jsonl"].iter().filter(|byte| **byte == b'\n').count(), 500);
    files
});

/// With 40 pairs in `many.csv`.
fn new_place() -> Place {
    let place = Place::new();
    let rows: String = (0..40).map(|row| format!("What of {row}?,It is {},It was {row} and {row}\n", row * row)).collect();
    fs::write(place.path("many.csv"), format!("question,matching,not_matching\n{rows}")).unwrap();
    place
}

/// Each file of a directory, with the times of `metrics.jsonl` left out.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        (name.clone(), if name == "metrics.jsonl" { without_seconds(&bytes) } else { bytes })
    };
    entries.map(read).collect()
}

fn without_seconds(lines: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| {
        let text = std::str::from_utf8(line).unwrap();
        let (numbers, seconds) = text.split_once(",\"seconds\":").unwrap_or_else(|| panic!("{text:?} is no whole line"));
        assert!(seconds.ends_with("}\n"), "{text:?} is no whole line");
        format!("{numbers}\n").into_bytes()
    };
    lines.split_inclusive(|byte| *byte == b'\n').flat_map(line).collect()
}

fn assert_same(dir: &Path, expected: &BTreeMap<String, Vec<u8>>) {
    let found = files(dir);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &found {
        assert!(bytes == &expected[name], "{name} differs");
    }
}

fn command(place: &Place, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
    command.args(["train", "--model", &fixture("llama")]);
    // What is given anew replaces what the run has.
    let kept = RUN.chunks(2).filter(|pair| !flags.contains(&pair[0])).flatten();
    command.args(kept).args(flags).current_dir(place.path("")).env("HF_HUB_OFFLINE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn train(place: &Place, flags: &[&str]) -> Output {
    command(place, flags).output().unwrap()
}

/// Bytes of the lines that are there.
fn metrics_len(place: &Place) -> u64 {
    fs::metadata(place.path("out/metrics.jsonl")).map_or(0, |metadata| metadata.len())
}

/// Waits until `out/metrics.jsonl` is as long. Returns whether the run still goes on.
fn wait_for_metrics(place: &Place, child: &mut Child, len: u64) -> bool {
    while metrics_len(place) < len {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// A run that was stopped after some steps.
fn interrupted(flags: &[&str]) -> Place {
    let place = new_place();
    let mut child = command(&place, flags).spawn().unwrap();
    assert!(wait_for_metrics(&place, &mut child, 8000), "ended before the interrupt");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    place
}

fn assert_one_error(output: &Output, code: i32, expected: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert!(errors.len() == 1 && errors[0].contains(expected), "expected {expected:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_run_killed_at_twenty_random_moments_leaves_the_files_of_one_that_was_not() {
    // Longer than 20 stretches of some steps.
    let epochs = ["--epochs", "60"];
    let whole = new_place();
    assert_ok(&train(&whole, &epochs));
    let place = new_place();
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let (mut while_writing, mut steps) = (0, Vec::new());
    for kill in 0..20 {
        let before = metrics_len(&place);
        let mut child =
            command(&place, &[&epochs[..], &["--resume", "--checkpoint-every", "1", "--quiet"]].concat()).spawn().unwrap();
        let started = Instant::now();
        let moment = if kill % 4 == 3 {
            // At any time, while the model is loaded or the cache is made too.
            started + Duration::from_micros(rng.random_range(0..30_000))
        } else {
            // Some steps on; a line has at most 400 bytes.
            assert!(wait_for_metrics(&place, &mut child, before + rng.random_range(0..8000)), "kill {kill}: it has ended");
            Instant::now() + Duration::from_micros(rng.random_range(0..1500))
        };
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "kill {kill}: it has ended");
        let drafts = fs::read_dir(place.path("out")).into_iter().flatten();
        while_writing += usize::from(drafts.flatten().any(|file| file.file_name().to_string_lossy().starts_with(".bipo-")));
        let found = bipo::train::checkpoint::read(&place.path("out")).unwrap();
        assert!(found.broken.is_none(), "kill {kill}: {:?}", found.broken);
        steps.push(found.checkpoint.map_or(0, |checkpoint| checkpoint.state.steps));
    }
    assert!(steps.is_sorted() && steps[19] > 100, "{steps:?}, {while_writing} kills while a file was written");
    // One that is empty may be another program's that has just begun to write, unless it has been empty for long.
    for file in fs::read_dir(place.path("out")).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with(".bipo-draft-") {
            let file = fs::File::open(file.path()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
        }
    }
    assert_ok(&train(&place, &[&epochs[..], &["--resume"]].concat()));
    assert_same(&place.path("out"), &files(&whole.path("out")));
}

#[test]
fn a_run_on_several_stages_is_resumed_on_others() {
    let place = interrupted(&["--device", "cpu:0,1"]);
    assert_ok(&train(&place, &["--resume", "--device", "cpu:0,1,2"]));
    assert_same(&place.path("out"), &WHOLE);
}

#[test]
fn an_interrupted_run_is_saved_and_resumed_and_not_begun_anew_unasked() {
    for name in ["-INT", "-TERM"] {
        let place = new_place();
        let mut child = command(&place, &[]).spawn().unwrap();
        assert!(wait_for_metrics(&place, &mut child, 8000), "ended before the interrupt");
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_one_error(&output, 130, "error: interrupted");
        assert!(text(&output.stderr).contains("continue with --resume"), "{}", text(&output.stderr));
        assert!(place.path("out/steering_vector.safetensors").exists(), "{name}");
        let left = files(&place.path("out"));
        assert_refused(&train(&place, &[]), &[name], "out holds a run that ended early after ");
        assert_same(&place.path("out"), &left);
        let resumed = train(&place, &["--resume"]);
        assert_ok(&resumed);
        assert!(text(&resumed.stderr).contains("continues after step "), "{}", text(&resumed.stderr));
        assert_same(&place.path("out"), &WHOLE);
    }
}

#[test]
fn a_run_that_draws_or_learns_factors_resumes_to_the_same_files() {
    let reps = ["--objective", "reps", "--direction", "both"];
    let learned =
        ["--objective", "simpo", "--direction", "positive", "--learn-factor", "--factor-scale", "0.2", "--factor-lr", "0.1"];
    for flags in [&reps[..], &learned, &["--factors", "1..3:0.5", "--positions", "first:1+last:2"]] {
        let whole = new_place();
        assert_ok(&train(&whole, flags));
        let place = interrupted(flags);
        assert_ok(&train(&place, &[flags, &["--resume"]].concat()));
        assert_same(&place.path("out"), &files(&whole.path("out")));
    }
}

#[test]
fn a_broken_newest_checkpoint_is_told_and_the_one_before_it_resumes_to_the_same_files() {
    let breaks: [fn(Vec<u8>) -> Vec<u8>; 3] = [
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |_| Vec::new(),
        |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        },
    ];
    for change in breaks {
        let place = interrupted(&["--checkpoint-every", "1"]);
        let newest = place.path("out/checkpoint.safetensors");
        fs::write(&newest, change(fs::read(&newest).unwrap())).unwrap();
        let resumed = train(&place, &["--resume"]);
        assert_ok(&resumed);
        let warning = "warning: out/checkpoint.safetensors: not a whole checkpoint";
        assert!(text(&resumed.stderr).contains(warning), "{}", text(&resumed.stderr));
        assert_same(&place.path("out"), &WHOLE);
    }
    let place = interrupted(&["--checkpoint-every", "1"]);
    for name in ["checkpoint.safetensors", "checkpoint-previous.safetensors"] {
        fs::write(place.path("out").join(name), "no checkpoint").unwrap();
    }
    let left = files(&place.path("out"));
    assert_refused(&train(&place, &["--resume"]), &[], "out/checkpoint.safetensors: not a whole checkpoint");
    assert_refused(&train(&place, &[]), &[], "out holds a run that ended early: continue it");
    assert_same(&place.path("out"), &left);
}

#[test]
fn lines_that_metrics_lost_are_told_and_cost_no_vector() {
    let place = interrupted(&[]);
    fs::remove_file(place.path("out/metrics.jsonl")).unwrap();
    let resumed = train(&place, &["--resume"]);
    assert_ok(&resumed);
    assert!(text(&resumed.stderr).contains("metrics.jsonl has lines of 0 of the "), "{}", text(&resumed.stderr));
    let found = files(&place.path("out"));
    assert!(found["steering_vector.safetensors"] == WHOLE["steering_vector.safetensors"]);
    assert!(WHOLE["metrics.jsonl"].ends_with(&found["metrics.jsonl"]) && !found["metrics.jsonl"].is_empty());
}

#[test]
fn changed_settings_are_all_listed_and_only_some_can_be_forced() {
    let place = interrupted(&[]);
    let left = files(&place.path("out"));
    let changed = ["--resume", "--lr", "0.02", "--beta", "0.5", "--system", "Be brief."];
    let refused = train(&place, &changed);
    for part in ["lr was 0.01, is 0.02", "beta was 0.1, is 0.5", "system was none, is \"Be brief.\"", "with --force-resume"] {
        assert_refused(&refused, &changed, part);
    }
    for (flags, expected) in [
        (&["--force-resume", "--seed", "3"][..], "seed was 11, is 3; these cannot change"),
        (&["--force-resume", "--layers", "1"], "layers was [0,1], is [1]; these cannot change"),
        (
            &["--force-resume", "--limit", "4", "--beta", "0.5"],
            "dataset.pairs was 40, is 4, limit was none, is 4; these cannot",
        ),
        (&["--force-resume", "--overwrite"], "cannot be used with"),
    ] {
        assert_refused(&train(&place, flags), flags, expected);
    }
    assert_same(&place.path("out"), &left);
    fs::write(place.path("many.csv"), "question,matching,not_matching\na,b,c\n").unwrap();
    let flags = ["--force-resume"];
    assert_refused(&train(&place, &flags), &flags, "dataset.sha256 was \"");
    assert_same(&place.path("out"), &left);

    let place = interrupted(&[]);
    let forced = train(&place, &["--force-resume", "--lr", "0.02", "--epochs", "26"]);
    assert_ok(&forced);
    assert!(text(&forced.stderr).contains("other settings hold: epochs was 25, is 26, lr was 0.01, is 0.02; give the former"));
    let config: Value = serde_json::from_slice(&fs::read(place.path("out/config.json")).unwrap()).unwrap();
    assert_eq!((&config["lr"], &config["epochs"]), (&json!(0.02), &json!(26)));
    assert_eq!(config["resumed"][0]["changed"], json!(["epochs was 25, is 26", "lr was 0.01, is 0.02"]));
}

#[test]
fn a_second_run_into_a_directory_in_use_is_refused_and_a_killed_one_blocks_nobody() {
    let place = new_place();
    let mut child = command(&place, &["--epochs", "1000000"]).spawn().unwrap();
    assert!(wait_for_metrics(&place, &mut child, 1));
    for flags in [&[][..], &["--overwrite"], &["--resume"]] {
        let expected = "--output-dir out is in use by another run: wait for its end, or choose another directory";
        assert_refused(&train(&place, flags), flags, expected);
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ok(&train(&place, &["--overwrite"]));
    assert_same(&place.path("out"), &WHOLE);
}

#[test]
fn a_finished_vector_is_replaced_only_when_asked_and_resumed_to_its_result() {
    let place = new_place();
    assert_ok(&place.train("out", &[]));
    let left = files(&place.path("out"));
    // Before the model is looked for.
    let flags = ["--model", "./nowhere.gguf"];
    assert_refused(&place.train("out", &flags), &flags, "--output-dir out holds a finished vector");
    let args = ["train", "--model", "./nowhere.gguf", "--method", "caa", "--dataset", "pairs.csv", "--output-dir", "out"];
    assert_refused(&place.bipo(&args), &args, "--output-dir out holds a finished vector");
    let finished = place.train("out", &["--resume"]);
    assert_ok(&finished);
    let stdout = text(&finished.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].contains("out/steering_vector.safetensors is finished, nothing to resume: 6 steps, loss "), "{stdout}");
    assert!(lines.len() == 3 && lines[1].contains("bipo steer ") && lines[2].contains("bipo calibrate "), "{stdout}");
    let as_json: Value = serde_json::from_slice(&place.train("out", &["--resume", "--json"]).stdout).unwrap();
    assert_eq!((&as_json["steps"], &as_json["timings"]), (&6.into(), &serde_json::json!({})));
    let generated = place.train("out", &["--resume", "--json", "--test-generation"]);
    let generated: Value = serde_json::from_slice(&generated.stdout).unwrap();
    assert_eq!(generated["test_generation"].as_array().unwrap().len(), 3);
    let flags = ["--resume", "--epochs", "3"];
    assert_refused(&place.train("out", &flags), &flags, "is finished, and had other settings: epochs was 2, is 3");
    assert_same(&place.path("out"), &left);
    assert_ok(&place.train("out", &["--overwrite", "--epochs", "1"]));
    assert_ok(&place.train("fresh", &["--epochs", "1"]));
    assert_same(&place.path("out"), &files(&place.path("fresh")));
}

/// With files of at most `blocks` blocks of 512 bytes (1024 in some shells).
fn train_in_little_room(place: &Place, blocks: u32, flags: &[&str]) -> Output {
    let run = command(place, flags);
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut limited = Command::new("sh");
    limited.args(["-c", &script, "sh"]).arg(run.get_program()).args(run.get_args());
    limited.current_dir(place.path("")).env("HF_HUB_OFFLINE", "1").stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_disk_that_fills_up_costs_one_line_and_no_checkpoint() {
    // The first thing that does not fit is a checkpoint.
    let place = interrupted(&[]);
    let left = files(&place.path("out"));
    let output = train_in_little_room(&place, 1, &["--resume"]);
    assert_one_error(&output, 1, "cannot write out/checkpoint.safetensors: File too large");
    assert!(text(&output.stderr).contains("then continue from the checkpoint before it with --resume"));
    assert_same(&place.path("out"), &left);
    assert_ok(&train(&place, &["--resume"]));
    assert_same(&place.path("out"), &WHOLE);
    // The cache does not fit: nothing is lost, so nothing has to be said of it.
    let place = new_place();
    let output = train_in_little_room(&place, 20, &["--cache-memory", "0"]);
    assert_one_error(&output, 1, "cannot write out: the activation cache's temporary file: File too large");
    assert_ok(&train(&place, &[]));
    assert_same(&place.path("out"), &WHOLE);
    // Checkpoints fit; the lines of all steps do not.
    let place = new_place();
    assert_one_error(&train_in_little_room(&place, 60, &[]), 1, "cannot write out/metrics.jsonl: File too large");
    assert_ok(&train(&place, &["--resume"]));
    assert_same(&place.path("out"), &WHOLE);
}

#[test]
fn an_output_directory_that_goes_away_is_one_line() {
    let place = new_place();
    let mut child = command(&place, &["--epochs", "1000000"]).spawn().unwrap();
    assert!(wait_for_metrics(&place, &mut child, 1));
    fs::rename(place.path("out"), place.path("gone")).unwrap();
    assert_one_error(&child.wait_with_output().unwrap(), 1, "the directory out is no longer there");
    assert!(!place.path("out").exists());
}

#[test]
fn a_directory_that_cannot_be_written_to_is_one_line() {
    let place = new_place();
    fs::create_dir(place.path("sealed")).unwrap();
    fs::set_permissions(place.path("sealed"), std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    // Nothing is sealed from root but what the kernel itself makes up.
    let is_root = fs::write(place.path("sealed/file"), "").is_ok();
    let dir = if is_root { "/proc/sealed".to_owned() } else { place.path("sealed").to_str().unwrap().to_owned() };
    let output = train(&place, &["--output-dir", &dir]);
    assert_one_error(&output, 1, &format!("cannot write {dir}: "));
}

#[test]
fn the_same_seed_gives_the_same_files_whatever_does_not_concern_the_numbers() {
    for rule in [&["--epochs", "3"][..], &["--epochs", "3", "--positions", "response", "--dtype", "bf16"]] {
        let place = new_place();
        let train = |flags: &[&str]| {
            let flags = [rule, &["--overwrite"], flags].concat();
            assert_ok(&train(&place, &flags));
            files(&place.path("out"))
        };
        let expected = train(&[]);
        for flags in [
            &["--threads", "1"][..],
            &["--threads", "2"],
            &["--cache-memory", "0"],
            &["--cache-memory", "3kB", "--threads", "1"],
            &["--verbose"],
            &["--quiet", "--json"],
            &["--checkpoint-every", "2"],
        ] {
            let found = train(flags);
            assert!(found == expected, "{rule:?} {flags:?}: the files differ");
        }
    }
}

#[test]
fn a_run_that_cannot_go_on_keeps_its_state_and_stops_at_the_same_step_again() {
    let place = new_place();
    let flags = ["--lr", "1e38", "--weight-decay", "0", "--max-grad-norm", "1e9", "--warmup-steps", "1"];
    let first = train(&place, &flags);
    assert_one_error(&first, 1, "not finite");
    let left = files(&place.path("out"));
    let again = train(&place, &[&flags[..], &["--resume"]].concat());
    let line = |output: &Output| text(&output.stderr).lines().last().map(str::to_owned);
    assert_eq!(line(&first), line(&again));
    let vector = "steering_vector.safetensors";
    assert!(files(&place.path("out"))[vector] == left[vector]);
}
