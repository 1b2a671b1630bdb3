//! The commands that set the program up on a machine: `doctor`, `completions` and `man`.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cli::{Place, assert_ok, assert_refused, fixture, text};

fn help(command: &str) -> String {
    text(&Place::new().bipo(&[command, "--help"]).stdout)
}

/// The commands that `bipo --help` lists.
fn commands() -> Vec<String> {
    let help = text(&Place::new().bipo(&["--help"]).stdout);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    let names = lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(["train", "steer", "doctor", "man"].iter().all(|name| names.iter().any(|known| known == name)), "{names:?}");
    names
}

/// The flags that the help of a command lists.
fn flags(command: &str) -> BTreeSet<String> {
    let help = help(command);
    // A line of the notes can begin with a flag, too; those of flags are indented.
    let first_words = help
        .lines()
        .filter(|line| line.starts_with(' '))
        .filter_map(|line| line.trim_start().strip_prefix('-').map(|_| line.trim_start()));
    let long = |line: &str| line.split([' ', ',']).find(|word| word.starts_with("--")).map(str::to_owned);
    let flags: BTreeSet<String> = first_words.filter_map(long).collect();
    assert!(flags.contains("--help"), "{command}: {flags:?}");
    flags
}

/// Whether a shell is on this machine.
fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok()
}

#[test]
fn each_shells_script_names_every_command_flag_and_value_and_the_shell_accepts_it() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = place.bipo(&["completions", shell]);
        assert_ok(&output);
        let script = text(&output.stdout);
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
            for flag in flags(&command) {
                // fish has the name without its hyphens.
                let flag = if shell == "fish" { format!("-l {}", &flag[2..]) } else { flag };
                assert!(script.contains(&flag), "{shell}: {command} {flag}");
            }
        }
        for value in ["bf16", "quantized", "simpo", "ablate", "best-worst", "smollm2-135m", "metal", "response"] {
            assert!(script.contains(value), "{shell}: {value}");
        }
        fs::write(place.path(shell), &script).unwrap();
        if is_installed(shell) {
            let read = Command::new(shell).arg("-n").arg(place.path(shell)).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {}", text(&read.stderr));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_commands_flags_and_values() {
    let place = Place::new();
    fs::write(place.path("script"), place.bipo(&["completions", "bash"]).stdout).unwrap();
    let complete = |words: &[&str]| -> String {
        let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let program = format!(
            "source ./script; COMP_WORDS=({list}); COMP_CWORD={}; _bipo bipo '{last}' '{before}'; echo \"${{COMPREPLY[*]}}\"",
            words.len() - 1
        );
        let output = Command::new("bash").args(["--norc", "-c", &program]).current_dir(place.path("")).output().unwrap();
        assert_ok(&output);
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete(&["bipo", "ste"]), "steer");
    assert_eq!(complete(&["bipo", "steer", "--magn"]), "--magnitudes");
    assert_eq!(complete(&["bipo", "train", "--dtype", ""]), "auto f32 bf16 f16");
    assert_eq!(complete(&["bipo", "eval", "--device", "c"]), "cpu cuda");
    assert_eq!(complete(&["bipo", "completions", ""]).split_whitespace().next_back(), Some("zsh"));
}

#[test]
fn a_manual_page_of_each_command_has_its_flags_and_its_examples() {
    let place = Place::new();
    let output = place.bipo(&["man"]);
    assert_ok(&output);
    let program = text(&output.stdout).replace("\\-", "-");
    assert!(commands().iter().all(|command| program.contains(&format!("bipo-{command}(1)"))), "{program}");
    assert_ok(&place.bipo(&["man", "--output-dir", "pages"]));
    let read = |name: &str| fs::read_to_string(place.path("pages").join(name)).unwrap().replace("\\-", "-");
    assert_eq!(read("bipo.1"), program);
    for command in commands() {
        let page = read(&format!("bipo-{command}.1"));
        for flag in flags(&command) {
            assert!(page.contains(&flag), "{command}: {flag}");
        }
        let help = help(&command);
        let (_, examples) = help.rsplit_once("Examples:\n").unwrap();
        assert!(examples.lines().all(|example| page.contains(example)), "{command}: {examples}\n{page}");
    }
    assert_eq!(fs::read_dir(place.path("pages")).unwrap().count(), commands().len() + 1);
}

#[test]
fn pages_that_cannot_be_written_are_one_line() {
    let place = Place::new();
    fs::write(place.path("a_file"), b"").unwrap();
    let refused = place.bipo(&["man", "--output-dir", "a_file/man1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).starts_with("error: cannot write a_file/man1: "), "{}", text(&refused.stderr));
}

#[test]
fn without_a_word_the_help_is_the_result() {
    let place = Place::new();
    let (bare, asked) = (place.bipo(&[]), place.bipo(&["--help"]));
    assert_ok(&bare);
    assert!(bare.stderr.is_empty());
    assert_eq!(text(&bare.stdout), text(&asked.stdout));
    assert!(text(&bare.stdout).contains("Usage: bipo"));
}

#[test]
fn a_model_in_the_place_of_a_vector_is_told_to_be_a_model() {
    let place = Place::new();
    let model = fixture("llama");
    let output = place.bipo(&["steer", "--model", &model, "--vector", "smollm2", "--prompt", "a"]);
    assert_eq!(output.status.code(), Some(2));
    let line = text(&output.stderr);
    assert!(line.contains("smollm2 is a model: name it with --model, and with --vector the file of a vector"), "{line}");
}

/// `bipo doctor` with caches of its own in `place`, and these variables and flags.
fn doctor(place: &Place, variables: &[(&str, &str)], flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bipo"))
        .arg("doctor")
        .args(flags)
        .current_dir(place.path(""))
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_ENDPOINT")
        .env_remove("HF_TOKEN")
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", place.path("hf"))
        .env("BIPO_CACHE", place.path("cache"))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_environment_limits_the_kernel_and_a_name_that_is_none_lists_the_right_ones() {
    let place = Place::new();
    let output = doctor(&place, &[("BIPO_KERNEL", "gemm")], &["--json"]);
    assert_ok(&output);
    let cpu = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["cpu"];
    assert_eq!((&cpu["product_kernel"], &cpu["bf16_product_kernel"]), (&"gemm".into(), &"gemm".into()));
    let output = doctor(&place, &[("BIPO_KERNEL", "avx9")], &[]);
    assert_refused(&output, &["doctor"], "BIPO_KERNEL=avx9: expected one of gemm, avx2, avx512, avx512bf16, amx");
    // Few machines have them all.
    let instructions = bipo::machine::cpu::instructions();
    if !instructions.contains(&"avx512bf16") {
        let output = doctor(&place, &[("BIPO_KERNEL", "avx512bf16")], &[]);
        assert_refused(&output, &["doctor"], "BIPO_KERNEL=avx512bf16: this machine has gemm");
    }
}

// A build for a GPU finds a problem where there is none.
#[cfg(not(any(feature = "cuda", feature = "metal")))]
#[test]
fn doctor_tells_build_machine_caches_and_models_and_never_the_token() {
    let place = Place::new();
    let variables = [("HF_TOKEN", "hf_secret"), ("HF_ENDPOINT", "http://me:secret@127.0.0.1:9")];
    let output = doctor(&place, &variables, &["--json"]);
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["bipo_version"], env!("CARGO_PKG_VERSION"));
    let features = report["features"].as_array().unwrap();
    assert_eq!(features.contains(&"serve".into()), cfg!(feature = "serve"));
    assert!(report["cpu"]["default_threads"].as_u64().unwrap() >= 1);
    let kernel = |of: &str| report["cpu"][of].as_str().unwrap().to_owned();
    assert!(["gemm", "avx2", "avx512"].contains(&kernel("product_kernel").as_str()));
    assert!(["gemm", "avx2", "avx512", "avx512bf16", "amx"].contains(&kernel("bf16_product_kernel").as_str()));
    let memory = &report["memory"];
    assert!(!cfg!(target_os = "linux") || memory["total_bytes"].as_u64().unwrap() >= memory["free_bytes"].as_u64().unwrap());
    assert_eq!(report["cache"]["path"], place.path("cache").to_str().unwrap());
    assert_eq!(report["cache"]["writable"], true);
    assert_eq!(report["hub"]["endpoint"], "http://127.0.0.1:9");
    assert_eq!((&report["hub"]["token"], &report["hub"]["reachable"]), (&true.into(), &Value::Null));
    assert_eq!((&report["models"], &report["problems"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert!(!place.path("cache").exists(), "doctor makes no directory");

    // A model that a script fetches is found by its name.
    fs::create_dir(place.path("cache")).unwrap();
    fs::write(place.path("cache").join("SmolLM2-135M-Instruct.Q4_1.gguf"), b"GGUF").unwrap();
    let output = doctor(&place, &variables, &[]);
    assert_ok(&output);
    let lines = text(&output.stdout);
    let value = |name: &str| {
        let line =
            lines.lines().find(|line| line.starts_with(&format!("{name:12}  "))).unwrap_or_else(|| panic!("{name}: {lines}"));
        line[14..].to_owned()
    };
    assert!(value("version").starts_with(&format!("bipo {}", env!("CARGO_PKG_VERSION"))));
    assert!(value("models").starts_with("smollm2: ") && value("models").ends_with("SmolLM2-135M-Instruct.Q4_1.gguf"));
    assert_eq!(value("hub"), "http://127.0.0.1:9, not asked: the network is off");
    assert_eq!(value("hub token"), "there");
    assert_eq!(value("problems"), "none");
    assert!(!lines.contains("secret"));
    assert_eq!(text(&output.stderr), "learn a vector: bipo train\n");
}

#[cfg(not(any(feature = "cuda", feature = "metal")))]
#[test]
fn a_hub_that_cannot_be_reached_is_no_failure_and_a_cache_that_cannot_be_written_to_is() {
    let place = Place::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{closed}");
    let online = [("HF_HUB_OFFLINE", "0"), ("HF_ENDPOINT", endpoint.as_str())];
    let output = doctor(&place, &online, &["--json"]);
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["hub"]["reachable"], false);
    assert!(report["hub"]["reason"].is_string());
    assert_eq!(report["hub"]["token"], false);

    fs::write(place.path("a_file"), b"").unwrap();
    let under_a_file = place.path("a_file").join("cache");
    let output = doctor(&place, &[("BIPO_CACHE", under_a_file.to_str().unwrap())], &["--offline"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = text(&output.stdout);
    let problem = lines.lines().find(|line| line.starts_with("problems")).unwrap();
    assert!(problem.contains("cannot write to ") && problem.contains("set BIPO_CACHE to a directory"), "{problem}");
    assert_eq!(text(&output.stderr), "error: problems that keep bipo from working: 1\n");
}
