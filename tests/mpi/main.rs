//! bipo as several ranks of an MPI job, started by `mpirun` on a tiny model: whatever their number, the bytes of a run are the
//! same, and whatever ends one of them ends all. Here is `bipo train`, in `commands` is what else shares its work out. A binary of its own, since it needs a build with the feature `mpi`: that of
//! `tests/it` would be compiled twice.

mod commands;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bipo::train::checkpoint::{self, TrainingCheckpoint};

/// A run of 30 steps of 7 pairs of 40, the last of each epoch of 5: no number of ranks divides all of them.
const RUN: [&str; 18] = [
    "--model",
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama"),
    "--dataset",
    "many.csv",
    "--eval-dataset",
    "held.csv",
    "--epochs",
    "5",
    "--batch-size",
    "7",
    "--warmup-steps",
    "10",
    "--lr",
    "0.01",
    "--layers",
    "0,1",
    "--direction",
    "uniform",
];

/// Flags of `mpirun`. Bound to cores, the jobs of two tests would share one.
const MPIRUN: [&str; 4] = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"];

/// Runs that last until something ends them.
const ENDLESS: [&str; 4] = ["--epochs", "10000", "--checkpoint-every", "5"];

/// How long a job may go on after one of its ranks has ended.
const SECONDS: Duration = Duration::from_secs(30);

struct Place(tempfile::TempDir);

impl Place {
    /// With 40 pairs in `many.csv` and 2 in `held.csv`, fewer than there are ranks in some tests.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows = |rows: std::ops::Range<usize>| -> String {
            rows.map(|row| format!("What of {row}?,It is {},It was {row} and {row}\n", row * row)).collect()
        };
        for (name, range) in [("many.csv", 0..40), ("held.csv", 40..42), ("other.csv", 1..41)] {
            fs::write(dir.path().join(name), format!("question,matching,not_matching\n{}", rows(range))).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `mpirun` of these groups of ranks, each with flags of its own that replace those of [`RUN`].
    fn mpirun(&self, groups: &[(usize, &[&str])]) -> Command {
        let mut command = Command::new("mpirun");
        command.args(MPIRUN);
        for (index, (ranks, flags)) in groups.iter().enumerate() {
            command.args((index > 0).then_some(":")).args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_bipo"), "train"]);
            command
                .args(["--output-dir", "out"])
                .args(RUN.chunks(2).filter(|pair| !flags.contains(&pair[0])).flatten())
                .args(*flags);
        }
        command.current_dir(self.0.path()).env("HF_HUB_OFFLINE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn train(&self, ranks: usize, flags: &[&str]) -> Output {
        self.mpirun(&[(ranks, flags)]).output().expect("mpirun starts: install Open MPI")
    }

    /// Starts a run and waits until it has done some steps. → it, and its ranks' process ids
    fn started(&self, ranks: usize, flags: &[&str]) -> (Child, Vec<u32>) {
        // A group of its own: what is signalled is what the test signals.
        let mut child = self.mpirun(&[(ranks, flags)]).process_group(0).spawn().expect("mpirun starts: install Open MPI");
        let metrics = self.path("out/metrics.jsonl");
        while fs::metadata(&metrics).map_or(0, |file| file.len()) < 4000 {
            assert!(
                child.try_wait().unwrap().is_none(),
                "ended by itself: {}",
                text(&child.wait_with_output().unwrap().stderr)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let pids = ranks_of(&child);
        assert_eq!(pids.len(), ranks);
        (child, pids)
    }

    fn checkpoint(&self) -> TrainingCheckpoint {
        let found = checkpoint::read(&self.path("out")).unwrap();
        assert!(found.broken.is_none());
        found.checkpoint.expect("a checkpoint is there")
    }
}

/// The process ids of a job's ranks, in their order.
fn ranks_of(mpirun: &Child) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", mpirun.id())).unwrap();
    let rank = |pid: u32| {
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
        let rank = environment.split('\0').find_map(|variable| variable.strip_prefix("OMPI_COMM_WORLD_RANK="))?;
        Some((rank.parse::<usize>().unwrap(), pid))
    };
    let ranks: BTreeMap<usize, u32> = children.split_whitespace().filter_map(|pid| rank(pid.parse().unwrap())).collect();
    ranks.into_values().collect()
}

/// Whether a process is there and not a dead one that nobody asked for its exit code.
fn computes(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// The output of a job that must end by itself now.
fn ended(mut child: Child) -> Output {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > SECONDS {
            ranks_of(&child).into_iter().chain([child.id()]).for_each(|pid| signal(pid, "-KILL"));
            panic!("the job goes on {SECONDS:?} after one of its ranks has ended");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// All ranks together say one line of error, and `mpirun` passes their exit code on.
fn assert_one_error(output: &Output, code: i32, expected: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert!(errors.len() == 1 && errors[0].contains(expected), "expected {expected:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Each file that a run left, with the times of `metrics.jsonl` left out.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: fs::DirEntry| {
        let (name, bytes) = (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        let is_metrics = name == "metrics.jsonl";
        (name, if is_metrics { without_seconds(&text(&bytes)) } else { bytes })
    };
    fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect()
}

fn without_seconds(lines: &str) -> Vec<u8> {
    let numbers = |line: &str| line.split_once(",\"seconds\":").unwrap_or_else(|| panic!("{line:?} is no line")).0.to_owned();
    lines.lines().map(numbers).collect::<Vec<_>>().join("\n").into_bytes()
}

fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in found {
        assert!(bytes == &expected[name], "{name} differs");
    }
}

/// All that a checkpoint holds but for the times.
fn state(checkpoint: &TrainingCheckpoint) -> String {
    let mut state = checkpoint.state.clone();
    state.timings = Default::default();
    format!("{:?} {state:?}", checkpoint.settings)
}

#[test]
fn one_two_and_three_ranks_leave_the_same_files() {
    // A random batch has pairs of some ranks alone, where 8 ranks share batches of 2.
    for flags in [&[][..], &["--objective", "reps", "--batch-size", "2", "--epochs", "1"], &["--positions", "response"]] {
        // RePS has a direction of its own.
        let flags: Vec<&str> =
            if flags.contains(&"reps") { [flags, &["--direction", "both"]].concat() } else { flags.to_vec() };
        let by_ranks = |ranks: usize| {
            let place = Place::new();
            assert_ok(&place.train(ranks, &flags));
            files(&place.path("out"))
        };
        let one = by_ranks(1);
        assert!(one.contains_key("steering_vector.safetensors") && one.contains_key("metrics.jsonl"));
        for ranks in [2, 3, 8] {
            assert_same(&by_ranks(ranks), &one);
        }
    }
}

#[test]
fn the_sum_of_single_pairs_is_that_of_a_whole_batch_up_to_rounding() {
    let (place, alone) = (Place::new(), Place::new());
    assert_ok(&place.train(2, &[]));
    let output = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["train", "--output-dir", "out"])
        .args(RUN)
        .current_dir(alone.path(""))
        .output()
        .unwrap();
    assert_ok(&output);
    let vector = |place: &Place| {
        let file = place.path("out/steering_vector.safetensors");
        bipo::steering::vector::SteeringVector::read(&file, None).unwrap().layers
    };
    for (found, expected) in vector(&place).values().flatten().zip(vector(&alone).values().flatten()) {
        assert!((found - expected).abs() <= 1e-3 * (1.0 + expected.abs()), "{found} is not {expected}");
    }
}

#[test]
fn a_signal_to_any_rank_leaves_a_checkpoint_that_any_number_of_ranks_continues() {
    let whole = Place::new();
    assert_ok(&whole.train(1, &["--epochs", "25"]));
    for (stopped, name, resumed) in [(0, "-TERM", 2), (2, "-TERM", 1), (1, "-INT", 3)] {
        let place = Place::new();
        let (child, pids) = place.started(3, &["--epochs", "25"]);
        signal(pids[stopped], name);
        assert_one_error(&ended(child), 130, "interrupted");
        let steps = place.checkpoint().state.steps;
        assert!((1..150).contains(&steps), "{steps}");
        assert_ok(&place.train(resumed, &["--epochs", "25", "--resume"]));
        assert_same(&files(&place.path("out")), &files(&whole.path("out")));
    }
}

#[test]
fn checkpoints_have_the_same_state_whatever_the_number_of_ranks() {
    let state_of = |ranks: usize| {
        let place = Place::new();
        // The vector cannot take the place of a directory, so that the run fails in the end and keeps its checkpoints.
        fs::create_dir_all(place.path("out/steering_vector.safetensors/taken")).unwrap();
        let output = place.train(ranks, &["--overwrite", "--checkpoint-every", "10"]);
        assert_one_error(&output, 1, "cannot write out/steering_vector.safetensors");
        let checkpoint = place.checkpoint();
        assert_eq!(checkpoint.state.steps, 30);
        state(&checkpoint)
    };
    let one = state_of(1);
    for ranks in [2, 3] {
        assert_eq!(state_of(ranks), one, "{ranks} ranks");
    }
}

/// Copies the model into a new folder, and changes its last byte.
fn twin_of_the_model(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama")).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
    let weights = to.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
}

#[test]
fn a_rank_that_would_compute_something_else_ends_the_job_before_anything_is_computed() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--dataset", "other.csv"], &["dataset.sha256", "pairs_as_tokens"]),
        (&["--lr", "0.02"], &["differ in lr:"]),
        (&["--init-scale", "1"], &["differ in init_scale:"]),
        // Of the same name and shape, with one number that is another.
        (&["--model", "twin/llama"], &["differ in model_files.model.safetensors:"]),
    ];
    for (flags, expected) in cases {
        let place = Place::new();
        twin_of_the_model(&place.path("twin/llama"));
        let output = place.mpirun(&[(1, &[]), (1, flags), (1, &[])]).output().unwrap();
        for expected in ["rank 1 and rank 0 would not compute the same"].iter().chain(expected) {
            assert_one_error(&output, 2, expected);
        }
        assert!(!place.path("out").exists(), "{flags:?}");
    }
}

#[test]
fn an_error_of_one_rank_ends_all_in_one_line_that_names_it() {
    let place = Place::new();
    let output = place.mpirun(&[(2, &[]), (1, &["--eval-dataset", "nowhere.csv"])]).output().unwrap();
    assert_one_error(&output, 2, "error: rank 2: no such file: nowhere.csv");
    assert!(!place.path("out").exists());
    let output = place.train(3, &["--layer", "99"]);
    assert_one_error(&output, 2, "--layer");
    let output = place.train(3, &["--layers", "99"]);
    assert_one_error(&output, 2, "99");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_rank_that_is_killed_ends_the_job_within_seconds_and_is_named() {
    let place = Place::new();
    let (child, pids) = place.started(3, &ENDLESS);
    signal(pids[1], "-KILL");
    let output = ended(child);
    assert!(!output.status.success());
    let stderr = text(&output.stderr);
    assert!(stderr.lines().any(|line| line.contains("rank 1 ") && line.contains("signal 9")), "{stderr}");
    // What was saved before is whole.
    assert!(place.checkpoint().state.steps > 0);
    // mpirun does not wait for the ranks that it ends.
    let are_gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        !pids.iter().any(|pid| computes(*pid))
    });
    assert!(are_gone);
}

#[test]
fn ranks_say_once_what_one_process_says_once() {
    let place = Place::new();
    let output = place.train(3, &[]);
    assert_ok(&output);
    assert_eq!(text(&output.stdout).matches("steps 30").count(), 1);
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("3 ranks share the pairs").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("epoch 5: held out").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("training 30/30").count(), 1, "{stderr}");
    let output = place.train(3, &["--resume"]);
    assert_ok(&output);
    assert_eq!(text(&output.stdout).matches("is finished, nothing to resume").count(), 1);
}

#[test]
fn commands_that_do_not_share_their_work_out_refuse_to_run_several_times_at_once() {
    let place = Place::new();
    let commands: [&[&str]; 3] = [&["steer", "--prompt", "Hi"], &["doctor"], &["train", "--no-such-flag"]];
    for command in commands {
        let output = Command::new("mpirun")
            .args(MPIRUN)
            .args(["-n", "3", env!("CARGO_BIN_EXE_bipo")])
            .args(command)
            .current_dir(place.path(""))
            .output()
            .unwrap();
        let expected =
            if command.contains(&"--no-such-flag") { "--no-such-flag" } else { "started as 3 ranks, but of bipo's commands" };
        assert_one_error(&output, 2, expected);
        assert!(output.stdout.is_empty());
    }
}
