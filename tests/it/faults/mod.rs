//! What fails around bipo, on the real binary: caches, memory, the network, disks, terminals, the environment. Each ends with one
//! line that says what happened and what to do, and leaves nothing half written.

mod hub;
mod interrupts;
mod memory;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::bytes::{safetensors, vector};
use crate::cli::{Place, assert_ok, fixture, text};
use crate::common;
use crate::endpoint::Endpoint;
use crate::pairs::writer;

/// A directory with pairs and a vector for the tiny model.
fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("v.safetensors"), vector(32)).unwrap();
    place
}

fn bipo(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
    command.args(args).current_dir(place.path("")).env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
    command
}

/// The same behind a shell's limit, as `ulimit` sets it.
fn limited(place: &Place, limit: &str, args: &[&str]) -> Output {
    let script = format!("ulimit {limit}; trap '' XFSZ; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_bipo")]).args(args).current_dir(place.path(""));
    command.env("HF_HUB_OFFLINE", "1").stdin(Stdio::null()).output().unwrap()
}

fn steer(more: &[&str]) -> Vec<String> {
    let args =
        ["steer", "--model", &fixture("llama"), "--vector", "v.safetensors", "--prompt", "Hello", "--max-new-tokens", "4"];
    args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// One line, this exit code, these words.
#[track_caller]
fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    for word in words {
        assert!(errors[0].contains(word), "{stderr} lacks {word}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Commands that write a file: their arguments and its name. `WHERE/` stands before it.
fn writers() -> Vec<(Vec<String>, &'static str)> {
    let model = fixture("llama");
    let own = |line: &str| line.replace("MODEL", &model).split(' ').map(str::to_owned).collect::<Vec<_>>();
    let eval = "eval --model MODEL --vector v.safetensors --dataset pairs.csv --skip text,generation --magnitudes 0,1";
    vec![
        (steer(&["--output", "WHERE/sweep.json"]), "sweep.json"),
        (steer(&["--report", "WHERE/sweep.html"]), "sweep.html"),
        (own("convert v.safetensors WHERE/v.gguf"), "v.gguf"),
        (own("convert v.safetensors WHERE/v.pt"), "v.pt"),
        (own("merge --model MODEL --vector v.safetensors --output-dir WHERE/merged"), "merged"),
        (own(&format!("{eval} --csv WHERE/eval.csv")), "eval.csv"),
        (own(&format!("{eval} --per-pair WHERE/pairs.jsonl")), "pairs.jsonl"),
        (own("train --model MODEL --dataset pairs.csv --max-steps 2 --output-dir WHERE/out"), "out"),
    ]
}

fn at(args: &[String], place: &str) -> Vec<String> {
    args.iter().map(|arg| arg.replace("WHERE", place)).collect()
}

/// The limit stands for a full disk: beyond it, writing fails. One block of 512 bytes holds none of these files but small ones, of
/// which there is none.
#[test]
fn a_full_disk_is_said_in_one_line_and_leaves_nothing_half_written() {
    for (args, name) in writers() {
        let place = place();
        fs::create_dir(place.path("there")).unwrap();
        let output = limited(&place, "-f 0", &strs(&at(&args, "there")));
        assert_fails(&output, 1, &["cannot write", "there"]);
        let left = names(&place.path("there"));
        match name {
            // A run's directory may be there, without anything that looks like a result.
            "out" => assert!(!place.path("there/out/steering_vector.safetensors").exists()),
            _ => assert!(left.is_empty(), "{args:?} leaves {left:?}"),
        }
    }
}

#[test]
fn a_full_disk_ends_the_making_of_pairs_with_those_that_there_was_room_for() {
    let (place, endpoint) = (place(), Endpoint::new(|body, _| writer(body)));
    let args = ["pairs", "answers like a pirate", "--model-url", &endpoint.url, "--output", "made.jsonl", "--n", "12"];
    assert_fails(&limited(&place, "-f 0", &args), 1, &["cannot write made.jsonl"]);
    assert!(!place.path("made.jsonl").exists());
    // Some 230 bytes a pair, blocks of 512 bytes in this shell.
    assert_fails(&limited(&place, "-f 2", &args), 1, &["cannot write made.jsonl"]);
    let there = fs::read_to_string(place.path("made.jsonl")).unwrap();
    assert!(there.lines().count() > 1 && there.ends_with("}\n"), "{there}");
    assert_ok(&bipo(&place, &args).output().unwrap());
    let whole = fs::read_to_string(place.path("made.jsonl")).unwrap();
    assert!(whole.starts_with(&there) && whole.lines().count() == 12, "{whole}");
}

#[test]
fn a_full_disk_keeps_the_file_that_was_there() {
    for (args, name) in writers().into_iter().filter(|(_, name)| name.contains('.')) {
        let place = place();
        fs::create_dir(place.path("there")).unwrap();
        fs::write(place.path("there").join(name), "old").unwrap();
        let mut args = at(&args, "there");
        if args[0] == "convert" {
            args.push("--force".into());
        }
        assert_fails(&limited(&place, "-f 0", &strs(&args)), 1, &["cannot write"]);
        assert_eq!(names(&place.path("there")), [name]);
        assert_eq!(fs::read_to_string(place.path("there").join(name)).unwrap(), "old");
    }
}

/// Permissions do not bind root, a mount that is read-only does: /proc stands for one.
#[test]
fn a_directory_that_cannot_be_written_to_is_said_in_one_line() {
    for (args, _) in writers() {
        let place = place();
        let output = bipo(&place, &strs(&at(&args, "/proc/self"))).output().unwrap();
        assert_fails(&output, 1, &["cannot write /proc/self/"]);
        // Found before anything is computed, and told by the name that the user gave.
        let stderr = text(&output.stderr);
        assert!(output.stdout.is_empty() && !stderr.contains(".bipo-") && !stderr.contains("loaded in"), "{args:?}: {stderr}");
    }
}

#[test]
fn what_a_killed_merge_left_is_removed_by_the_next_and_what_a_living_one_writes_stays() {
    let place = place();
    let draft = |name: &str| {
        fs::create_dir(place.path(name)).unwrap();
        fs::write(place.path(name).join("model.safetensors"), "half of it").unwrap();
    };
    draft(".bipo-draft-dead01");
    draft(".bipo-draft-alive1");
    let alive = fs::File::open(place.path(".bipo-draft-alive1")).unwrap();
    alive.try_lock().unwrap();
    let merge = |dir: &str| {
        let args = ["merge", "--model", &fixture("llama"), "--vector", "v.safetensors", "--output-dir", dir];
        bipo(&place, &args).output().unwrap()
    };
    assert_ok(&merge("merged"));
    assert_eq!(names(&place.path("")), [".bipo-draft-alive1", "merged", "pairs.csv", "v.safetensors"]);
    drop(alive);
    assert_ok(&merge("again"));
    assert_eq!(names(&place.path("")), ["again", "merged", "pairs.csv", "v.safetensors"]);
}

#[test]
fn a_name_that_is_empty_is_told_with_its_flag() {
    let place = place();
    for (args, flag) in [
        (&["steer", "--vector", "", "--prompt", "Hi"][..], "--vector <FILE[:SCALE]>"),
        (&["eval", "--vector", ""], "--vector <FILE[:SCALE]>"),
        (&["merge", "--vector", "", "-o", "m"], "--vector <FILE[:SCALE]>"),
        (&["eval", "--baseline", ""], "--baseline <random|prompt|FILE>"),
        (&["convert", "", "v.gguf"], "<FILE>"),
    ] {
        assert_fails(&bipo(&place, args).output().unwrap(), 2, &["a value is required for", flag]);
    }
}

#[test]
fn a_picture_that_is_missing_is_said_even_to_a_quiet_run() {
    let place = place();
    // The picture's place is taken by a directory that holds something.
    fs::create_dir_all(place.path("out/training.svg/x")).unwrap();
    let train = place.train("out", &["--quiet"]);
    assert_ok(&train);
    let stderr = text(&train.stderr);
    assert!(stderr.contains("warning: no training curve: cannot write out/training.svg"), "{stderr}");
}

#[test]
fn an_unreadable_cache_says_which_file_and_why() {
    let place = place();
    fs::create_dir(place.path("cache")).unwrap();
    // Root reads what nobody may read, but no directory as a file.
    fs::create_dir(place.path("cache/SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    fs::write(place.path("home"), "no directory").unwrap();
    let args = ["steer", "--vector", "v.safetensors", "--prompt", "a"];
    let run = |name: &str, value: &str| {
        let mut command = bipo(&place, &args);
        command.env("HF_HOME", place.path("nowhere")).env("BIPO_CACHE", place.path("nowhere")).env(name, place.path(value));
        command.output().unwrap()
    };
    assert_fails(&run("BIPO_CACHE", "cache"), 1, &["--offline", "does not hold all of it"]);
    assert_fails(&run("HF_HOME", "home"), 1, &["--offline", "does not hold all of it"]);
    fs::set_permissions(place.path("cache"), Permissions::from_mode(0o000)).unwrap();
    assert_fails(&run("BIPO_CACHE", "cache"), 1, &["does not hold all of it"]);
    fs::set_permissions(place.path("cache"), Permissions::from_mode(0o700)).unwrap();
    // Online, where what is fetched has no place.
    let server = hub::Server::start(hub::Fault::None);
    let output = server.bipo(&place, &place.path("home"), 10);
    assert_fails(&output, 1, &["the cache"]);
}

/// A file of a model, and what is changed in it.
type Change<'a> = (&'a str, &'a dyn Fn(&mut serde_json::Value));

/// The tiny model in `name`, some of its files changed.
fn changed_model(place: &Place, name: &str, changes: &[Change]) {
    fs::create_dir(place.path(name)).unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(&fixture("llama")).join(file), place.path(name).join(file)).unwrap();
    }
    for (file, change) in changes {
        let path = place.path(name).join(file);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, value.to_string()).unwrap();
    }
}

/// The head would read past its last row.
#[test]
fn an_end_of_text_token_that_the_model_has_not_is_refused_in_one_line() {
    let place = place();
    let token = json!({
        "id": 320, "content": "<eot>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    });
    let changes: [Change; 2] = [
        ("tokenizer.json", &|tokenizer| tokenizer["added_tokens"].as_array_mut().unwrap().push(token.clone())),
        ("tokenizer_config.json", &|config| config["eos_token"] = json!("<eot>")),
    ];
    changed_model(&place, "longer", &changes);
    let model = ["--model", "longer", "--dataset", "pairs.csv", "--device", "cpu"];
    for command in [&["train", "--output-dir", "out"][..], &["eval", "--vector", "v.safetensors", "--skip", "text,generation"]]
    {
        let output = bipo(&place, &[command, &model].concat()).output().unwrap();
        assert_fails(&output, 2, &["the tokenizer gives the token \"<eot>\" the id 320, but the model has 320 ids"]);
    }
    assert!(!place.path("out/steering_vector.safetensors").exists());
}

#[test]
fn a_data_set_of_the_hub_is_whole_or_not_there() {
    use hub::{Fault, Server};
    for (fault, words) in [
        (Fault::Silent, "no byte came for 1 s"),
        (Fault::Short, "came damaged"),
        (Fault::OtherBytes, "SHA-256"),
        (Fault::EscapingTag, "no usable ETag"),
    ] {
        let place = self::place();
        assert_fails(&Server::start(fault).eval(&place, &place.path("home"), 1), 1, &["data set o/m", words]);
        assert_ok(&Server::start(Fault::None).eval(&place, &place.path("home"), 10));
        // What is there serves where the hub does not answer.
        assert_ok(&Server::start(Fault::Silent).eval(&place, &place.path("home"), 1));
    }
}

#[test]
fn a_download_goes_on_where_it_stopped_and_a_server_that_lies_is_found_out() {
    use hub::{Fault, Server};
    let weights = fs::metadata(fixture("llama/model.safetensors")).unwrap().len() as usize;
    // The connection ends in the middle, every time but the last: the rest is asked for, and the model runs.
    let (place, server) = (place(), Server::start(Fault::Cut { times: 2 }));
    let output = server.bipo(&place, &place.path("home"), 10);
    assert_ok(&output);
    assert!(server.starts("model.safetensors").iter().any(|start| (1..weights).contains(start)), "{:?}", server.log());
    // Once it is there the server is not needed.
    drop(server);
    let gone = Server::start(Fault::Silent);
    assert_ok(&gone.bipo(&place, &place.path("home"), 1));

    // It gives up, and the next run goes on.
    let place = self::place();
    let server = Server::start(Fault::Cut { times: usize::MAX });
    assert_fails(&server.bipo(&place, &place.path("home"), 10), 1, &["o/m"]);
    let server = Server::start(Fault::None);
    assert_ok(&server.bipo(&place, &place.path("home"), 10));
    assert!(server.starts("model.safetensors")[0] > 0, "{:?}", server.log());

    for (fault, words) in [
        (Fault::Silent, "no byte came for 1 s"),
        (Fault::Stall, "no byte came for 1 s"),
        (Fault::Short, "came damaged"),
        (Fault::IgnoresRange, "came damaged"),
        (Fault::OtherBytes, "SHA-256"),
        (Fault::EscapingTag, "no usable ETag"),
        (Fault::Circle, "o/m"),
    ] {
        let place = self::place();
        let server = Server::start(fault);
        let started = std::time::Instant::now();
        assert_fails(&server.bipo(&place, &place.path("home"), 1), 1, &[words]);
        assert!(started.elapsed().as_secs() < 20, "{fault:?}");
        // What was damaged is not there to be taken for whole.
        let server = Server::start(Fault::None);
        assert_ok(&server.bipo(&place, &place.path("home"), 10));
        assert_eq!(names(&place.path("")), ["home", "pairs.csv", "v.safetensors"]);
    }
}

#[test]
fn twenty_columns_are_enough() {
    let place = place();
    assert_ok(&place.train("out", &[]));
    let convert = "convert v.safetensors w.pt --force".split(' ').map(str::to_owned).collect::<Vec<_>>();
    let inspect = "inspect v.safetensors out/steering_vector.safetensors".split(' ').map(str::to_owned).collect::<Vec<_>>();
    let train = ["train", "--model", &fixture("llama"), "--dataset", "pairs.csv", "--output-dir", "again", "--max-steps", "2"];
    let train = train.map(str::to_owned).to_vec();
    for args in
        [steer(&["--magnitudes", "-1,0,1"]), steer(&["--magnitudes", "1"]), convert, inspect, train, vec!["--help".into()]]
    {
        // A terminal of its own, from util-linux.
        let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("stty cols 20 rows 10; '{}' {}", env!("CARGO_BIN_EXE_bipo"), quoted.join(" "));
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(place.path(""))
            .env("HF_HUB_OFFLINE", "1")
            .env("TERM", "xterm")
            .env_remove("COLUMNS")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("panicked"));
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let place = place();
    let eval = ["eval", "--model", &fixture("llama"), "--vector", "v.safetensors", "--dataset", "pairs.csv"];
    let eval =
        [&eval[..], &["--skip", "text,generation", "--magnitudes", "0"]].concat().iter().map(|arg| arg.to_string()).collect();
    let inspect = "inspect v.safetensors".split(' ').map(str::to_owned).collect();
    for args in [steer(&[]), steer(&["--json"]), eval, inspect, vec!["--help".into()], vec!["train".into(), "--help".into()]] {
        let mut child = bipo(&place, &strs(&args)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"));
        // Nor is one who was never there.
        let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("'{}' {} >&-", env!("CARGO_BIN_EXE_bipo"), quoted.join(" "));
        let closed =
            Command::new("sh").args(["-c", &line]).current_dir(place.path("")).env("HF_HUB_OFFLINE", "1").output().unwrap();
        assert!(!text(&closed.stderr).contains("panicked"), "{args:?}: {}", text(&closed.stderr));
    }
}

#[test]
fn without_a_home_what_needs_none_works_and_what_needs_one_says_so() {
    let place = place();
    let bare = |args: &[String]| {
        let mut command = bipo(&place, &strs(args));
        command.env_clear().output().unwrap()
    };
    assert_ok(&bare(&steer(&[])));
    // The system's list of users tells a home where HOME does not: the message is the cache's then.
    let args = ["steer", "--model", "o/m", "--offline", "--vector", "v.safetensors", "--prompt", "a"].map(str::to_owned);
    let output = bare(&args);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("panicked"));
}

#[test]
fn a_path_that_is_not_utf_8_is_a_path_like_any_other() {
    let place = place();
    let name = OsStr::from_bytes(b"caf\xe9");
    let dir = place.path("").join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("v.safetensors"), vector(32)).unwrap();
    fs::copy(place.path("pairs.csv"), dir.join("pairs.csv")).unwrap();
    // From inside it, and into it.
    let inside = bipo(&place, &strs(&steer(&["--output", "sweep.json"]))).current_dir(&dir).output().unwrap();
    assert_ok(&inside);
    assert!(dir.join("sweep.json").exists());
    let model = fixture("llama");
    let commands: [(&[&str], &[u8]); 5] = [
        (&["train", "--model", &model, "--dataset", "pairs.csv", "--max-steps", "2", "--json", "--output-dir"], b"out\xff"),
        (
            &["train", "--model", &model, "--dataset", "pairs.csv", "--max-steps", "2", "--resume", "--json", "--output-dir"],
            b"out\xff",
        ),
        (&["convert", "v.safetensors", "--json"], b"w\xff.pt"),
        (&["merge", "--model", &model, "--vector", "v.safetensors", "--json", "--output-dir"], b"merged\xff"),
        (&["inspect", "--json"], b"caf\xe9/v.safetensors"),
    ];
    for (args, path) in commands {
        let output = bipo(&place, args).arg(OsStr::from_bytes(path)).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        if args[0] == "convert" {
            // Inputs are FILE:WEIGHT, which is text: refused, not mangled.
            assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
            assert!(stderr.contains("UTF-8"), "{stderr}");
        } else {
            assert!(output.status.success(), "{args:?}: {stderr}");
            let _: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        }
    }
    assert!(place.path("").join(OsStr::from_bytes(b"out\xff/steering_vector.safetensors")).exists());
}

/// A clock that jumps can move nothing: durations come from the monotonic one. The date is asked for in two places: for templates
/// that print it, and to understand a judge's Retry-After that is a date, a wait that is bounded.
#[test]
fn no_duration_is_taken_from_the_clock_on_the_wall() {
    let found = common::sources();
    assert!(found.iter().any(|(_, source)| source.contains("Instant::now()")));
    let walls = ["SystemTime", "UNIX_EPOCH", "Local::now", "Utc::now"];
    let is_wall = |(_, source): &&(String, String)| walls.iter().any(|wall| source.contains(wall));
    let mut places: Vec<&str> = found.iter().filter(is_wall).map(|(path, _)| path.as_str()).collect();
    places.sort_unstable();
    let expected = ["data/endpoint.rs", "data/endpoint_tests.rs", "serve/date.rs", "text/chat/jinja.rs"];
    assert_eq!(places, expected);
}
