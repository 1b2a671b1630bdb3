//! Bad input on the real binary, as one table: arguments, models, tokenizers, templates, vectors, data sets, questions and judges'
//! files. Each row must end with its exit code and its message on one line, within time and memory, and leave no file.

mod arguments;
mod datasets;
mod models;
mod texts;
mod vectors;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::bytes::vector;
use crate::cli::{fixture, text};

/// What a row may take.
const LONGEST: Duration = Duration::from_secs(2);

/// A small file must not make bipo ask for a gigabyte, whether it is touched or not. What every run reserves, threads' stacks above
/// all, comes on top: this much is not enough for a good run.
const RESERVED_KIB: u64 = 288 << 10;
const ADDRESS_SPACE_KIB: u64 = RESERVED_KIB + (1 << 20);

/// Makes what is no file with bytes.
type Arrange = Box<dyn Fn(&Path)>;

/// A row of the table.
pub struct Case {
    args: Vec<String>,
    says: &'static str,
    exit: i32,
    files: Vec<(String, Vec<u8>)>,
    /// Copies the tiny model to `m`.
    with_model: bool,
    arrange: Vec<Arrange>,
}

impl Case {
    /// A command line, split at spaces; `MODEL` in it is the tiny model's folder.
    pub fn new(line: &str, says: &'static str) -> Self {
        let args = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace("MODEL", &fixture("llama")));
        Self { args: args.collect(), says, exit: 2, files: Vec::new(), with_model: false, arrange: Vec::new() }
    }

    /// A training run with these flags.
    pub fn train(flags: &str, says: &'static str) -> Self {
        let model = if flags.contains("--model") { "" } else { "--model MODEL" };
        let pairs = if flags.contains("--dataset") { "" } else { "--dataset pairs.csv" };
        Self::new(&format!("train {model} {pairs} --output-dir out --max-steps 2 {flags}"), says)
    }

    /// A sweep with these flags.
    pub fn steer(flags: &str, says: &'static str) -> Self {
        let or = |flag: &str, default: &'static str| if flags.contains(flag) { "" } else { default };
        let (model, vector) = (or("--model", "--model MODEL"), or("--vector", "--vector v.safetensors"));
        let prompt = or("--prompt", "--prompt hello");
        Self::new(&format!("steer {model} {vector} {prompt} --max-new-tokens 2 {flags}"), says)
    }

    /// A sweep of a copy of the tiny model, of which one file is other bytes.
    pub fn model(file: &str, bytes: impl Into<Vec<u8>>, says: &'static str) -> Self {
        Self { with_model: true, ..Self::steer("--model m", says) }.file(&format!("m/{file}"), bytes)
    }

    /// The same, of which one file of text has other words.
    pub fn model_edit(file: &'static str, from: &'static str, to: &'static str, says: &'static str) -> Self {
        Self::steer("--model m", says).with_edit(file, from, to)
    }

    /// Beside the model, of which one file of text has other words.
    pub fn with_edit(self, file: &'static str, from: &'static str, to: &'static str) -> Self {
        let words = fs::read_to_string(fixture(&format!("llama/{file}"))).unwrap();
        assert!(words.contains(from), "{file} has no {from}");
        Self { with_model: true, ..self }.file(&format!("m/{file}"), words.replace(from, to))
    }

    pub fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), bytes.into()));
        self
    }

    /// Whatever is no file with bytes.
    pub fn arrange(mut self, arrange: impl Fn(&Path) + 'static) -> Self {
        self.arrange.push(Box::new(arrange));
        self
    }

    /// One more flag, or several.
    pub fn also(mut self, flags: &str) -> Self {
        self.args.extend(flags.split(' ').map(str::to_owned));
        self
    }

    pub fn exit(self, exit: i32) -> Self {
        Self { exit, ..self }
    }

    fn name(&self) -> String {
        let args: Vec<String> = self.args.iter().map(|arg| arg.replace(&fixture("llama"), "MODEL")).collect();
        let files: Vec<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        let short = |text: String| text.chars().take(160).collect::<String>();
        format!("bipo {} [{}: {:?}]", short(args.join(" ")), files.join(", "), self.says)
    }

    fn prepare(&self, dir: &Path) {
        fs::write(dir.join("pairs.csv"), "question,matching,not_matching\nWhy?,Because.,Never mind.\nWho?,A friend.,No one.\n")
            .unwrap();
        fs::write(dir.join("v.safetensors"), vector(32)).unwrap();
        if self.with_model {
            fs::create_dir(dir.join("m")).unwrap();
            for entry in fs::read_dir(fixture("llama")).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, dir.join("m").join(path.file_name().unwrap())).unwrap();
            }
        }
        for (name, bytes) in &self.files {
            fs::write(dir.join(name), bytes).unwrap();
        }
        self.arrange.iter().for_each(|arrange| arrange(dir));
    }

    /// What is wrong with the program's answer.
    fn problems(&self) -> Vec<String> {
        let place = tempfile::tempdir().unwrap();
        let (dir, temporary) = (place.path().join("here"), place.path().join("temporary"));
        [&dir, &temporary].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        self.prepare(&dir);
        let before = listing(place.path());
        let started = Instant::now();
        let (output, ended) = run(&self.args, &dir, &temporary, ADDRESS_SPACE_KIB);
        let took = started.elapsed();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut problems = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                problems.push(what)
            }
        };
        expect(ended, "does not end".into());
        expect(output.status.code() == Some(self.exit), format!("{}, not {}", output.status, self.exit));
        expect(stderr.lines().count() == 1 && stderr.starts_with("error: "), "is no single line".into());
        expect(stderr.contains(self.says), "says something else".into());
        expect(!stderr.contains("panicked"), "panics".into());
        expect(stderr.len() < 2000, format!("takes {} bytes to say it", stderr.len()));
        expect(output.stdout.is_empty(), format!("prints {:?}", text(&output.stdout)));
        expect(listing(place.path()) == before, "leaves or changes a file".into());
        expect(took < LONGEST, format!("takes {took:?}"));
        match problems.is_empty() {
            true => problems,
            false => [problems, vec![format!("stderr: {}", stderr.chars().take(400).collect::<String>())]].concat(),
        }
    }
}

/// Runs bipo with a limit on its address space. Also says whether it ended by itself.
fn run(args: &[String], dir: &Path, temporary: &Path, address_space_kib: u64) -> (Output, bool) {
    let limited = format!("ulimit -v {address_space_kib}; exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_bipo")])
        .args(args)
        .arg("-q")
        .current_dir(dir)
        .env("HF_HUB_OFFLINE", "1")
        .env("HOME", temporary)
        .env("TMPDIR", temporary)
        .env_remove("BIPO_CACHE")
        // The allocator reserves a gigabyte where it gets one, and would leave too little of the limit.
        .env("MIMALLOC_ARENA_RESERVE", "64M")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + 5 * LONGEST;
    let ended = loop {
        if child.try_wait().unwrap().is_some() {
            break true;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            break false;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    (child.wait_with_output().unwrap(), ended)
}

/// Every path below, with its length.
fn listing(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap();
        found.insert(path.clone(), kind.len());
        if kind.is_dir() {
            found.extend(listing(&path));
        }
    }
    found
}

#[test]
fn each_bad_input_is_refused_in_one_line_within_time_and_memory_and_leaves_no_file() {
    let cases: Vec<Case> = [arguments::cases(), models::cases(), texts::cases(), vectors::cases(), datasets::cases()]
        .into_iter()
        .flatten()
        .collect();
    assert!(cases.len() >= 80, "{}", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        let mut problems = case.problems();
        // Other tests share the cores: what was slow alone is tried again.
        if matches!(problems.as_slice(), [slow, _] if slow.starts_with("takes ") && slow.ends_with('s')) {
            problems = case.problems();
        }
        if !problems.is_empty() {
            failed.push(format!("{}\n    {}", case.name(), problems.join("\n    ")));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// Without this, every row could fail for want of room, or the limit be none.
#[test]
fn a_good_run_fits_into_the_limit_and_a_tight_limit_holds() {
    let place = tempfile::tempdir().unwrap();
    let case = Case::steer("--magnitudes 0,1", "");
    case.prepare(place.path());
    let (output, _) = run(&case.args, place.path(), place.path(), ADDRESS_SPACE_KIB);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (output, _) = run(&case.args, place.path(), place.path(), RESERVED_KIB);
    assert!(!output.status.success());
}
