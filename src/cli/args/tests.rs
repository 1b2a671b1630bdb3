//! Tests of `args`.

use super::*;

#[test]
fn a_wrong_command_line_is_told_in_one_line_with_what_would_be_right() {
    let told = |words: &[&str]| one_line(&Cli::try_parse_from(words).unwrap_err().to_string());
    assert_eq!(
        told(&["bipo", "train", "--layr", "1"]),
        "unexpected argument '--layr' found; tip: a similar argument exists: '--layer' (see --help)"
    );
    assert_eq!(told(&["bipo", "inspect"]), "the following required arguments were not provided: <FILE>... (see --help)");
    assert_eq!(
        told(&["bipo", "train", "--dtype", "f8"]),
        "invalid value 'f8' for '--dtype <DTYPE>'; [possible values: auto, f32, bf16, f16] (see --help)"
    );
}

#[test]
fn flags_are_given_when_the_user_wrote_them() {
    let words = ["bipo", "layers", "--dataset", "a b.csv", "-q", "--strict", "--system", "", "--epochs", "1"];
    let matches = Cli::command().try_get_matches_from(words).unwrap();
    let given: Vec<(String, Vec<String>)> = given_in(&matches).into_iter().map(|given| (given.flag, given.values)).collect();
    let expected = [
        ("--dataset", vec!["a b.csv"]),
        ("--epochs", vec!["1"]),
        ("--quiet", vec![]),
        ("--strict", vec![]),
        ("--system", vec![""]),
    ];
    let mut given: Vec<(&str, Vec<&str>)> =
        given.iter().map(|(flag, values)| (flag.as_str(), values.iter().map(String::as_str).collect())).collect();
    given.sort();
    assert_eq!(given, expected);
}

/// The answer to `bipo` with these words behind it.
fn told(words: &[&str]) -> String {
    let error = Cli::try_parse_from(["bipo"].iter().chain(words)).unwrap_err();
    misuse::told(&error, &words.iter().map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn other_names_of_the_magnitude_are_told_the_flag_and_where_it_belongs() {
    for flag in ["--alpha", "--strength", "--coeff", "--scale"] {
        for command in ["steer", "eval"] {
            let expected = format!(
                "unexpected argument '{flag}' found; tip: the factor on the vector is --magnitudes, a list such as --magnitudes -2,0,2 \
                 (see --help)"
            );
            assert_eq!(told(&[command, flag, "2"]), expected);
            assert_eq!(told(&[command, &format!("{flag}=2")]), expected);
        }
        for words in [&[flag, "2"][..], &["train", flag, "2"], &["calibrate", flag, "2"]] {
            assert!(
                told(words).contains("tip: the factor on the vector is chosen where it steers: bipo steer --magnitudes"),
                "{words:?}"
            );
        }
        assert!(told(&["merge", "-o", "out", flag, "2"]).contains("tip: the factor on the vector is --magnitude "), "{flag}");
    }
}

#[test]
fn a_flag_before_the_command_is_told_where_it_belongs() {
    assert_eq!(
        told(&["--vector", "x"]),
        "unexpected argument '--vector' found; tip: a command comes first: bipo steer --vector FILE --magnitudes -2,0,2 (see --help)"
    );
    assert!(told(&["--model", "mistral", "steer"]).contains("tip: a command comes first, as in bipo steer --model (see"));
    assert!(told(&["--output-dir=out"]).contains("tip: a command comes first, as in bipo train --output-dir (see"));
    assert_eq!(told(&["--vektor", "x"]), "unexpected argument '--vektor' found (see --help)");
}

#[test]
fn other_names_and_mistyped_names_of_flags_are_told_the_right_ones() {
    for (words, right) in [
        ("train --learning-rate 1", "--lr"),
        ("train --factor 2", "--factors"),
        ("train --layr 1", "--layer"),
        ("steer --tempature 1", "--temperature"),
        ("steer --question Why?", "--prompt"),
        ("eval --questions q.txt", "--prompts"),
        ("train --data pairs.csv", "--dataset"),
    ] {
        let line = told(&words.split(' ').collect::<Vec<_>>());
        assert!(line.ends_with(&format!(" found; tip: a similar argument exists: '{right}' (see --help)")), "{words}: {line}");
    }
    // In place of the magnitude, where nothing is trained.
    assert!(told(&["steer", "--factor", "2"]).contains("tip: the factor on the vector is --magnitudes, "));
    for (other, name) in misuse::SYNONYMS {
        let program = Cli::command();
        let has = |flag: &str| {
            program.get_subcommands().any(|command| command.get_arguments().any(|argument| argument.get_long() == Some(flag)))
        };
        assert!(has(name) && !has(other), "{other} {name}");
    }
}

#[test]
fn a_vector_that_is_taken_for_a_command_or_a_model_is_told_what_it_is_for() {
    for word in ["vector", "vectors"] {
        let line = told(&[word]);
        assert!(
            line.contains("tip: bipo inspect FILE shows what a vector's file holds, and bipo steer --vector FILE"),
            "{line}"
        );
    }
    for words in [&["--vector", "smollm2"][..], &["--vector=smollm2"], &["--vector", "HuggingFaceTB/SmolLM2-135M-Instruct"]] {
        let line = told(words);
        assert!(line.contains("smollm2 is a model: bipo steer --model smollm2 --vector FILE (see"), "{line}");
    }
}

#[test]
fn a_negative_number_is_told_the_range_of_its_flag() {
    for (words, right) in [
        ("train --lr -1", "'-1' for '--lr <LR>': expected a number above 0"),
        ("steer --temperature -0.5", "'-0.5' for '--temperature <TEMPERATURE>': expected 0, or a number from 0.000001"),
        ("steer --seed -1", "'-1' for '--seed <SEED>': expected a whole number of at least 0"),
        ("bench --threads -1", "'-1' for '--threads <N>': expected a whole number from 1 to 512"),
        ("train --epochs -1", "'-1' for '--epochs <EPOCHS>': expected a whole number above 0"),
    ] {
        let line = told(&words.split(' ').collect::<Vec<_>>());
        assert!(line.starts_with(&format!("invalid value {right}")), "{words}: {line}");
    }
}

#[test]
fn a_command_that_there_is_not_is_told_those_that_there_are() {
    let line = told(&["generate"]);
    assert!(line.starts_with("unrecognized subcommand 'generate'; tip: the commands are train, data, "), "{line}");
    assert!(told(&["trian"]).contains("tip: a similar subcommand exists: 'train'"));
}

#[test]
fn a_wrong_value_is_told_the_right_ones() {
    let wrong = [
        ("train --dtype x", "auto, f32, bf16, f16"),
        ("train --weights x", "auto, dense, quantized"),
        ("train --direction x", "sign, uniform, both, positive"),
        ("train --method x", "bipo, caa"),
        ("train --caa-positions x", "response, last"),
        ("train --objective x", "bipo, dpo, simpo, reps, lm"),
        ("train --scheduler x", "cosine, linear, constant"),
        ("train --cache x", "auto, device, host"),
        ("train --cache-memory x", "2GB or 500MiB"),
        ("train --layers x", "10,13,16 or 10..16 or all"),
        ("train --factors x", "2,4,8 or a range 2..20:2"),
        ("train --factors 0,1", "2,4,8 or a range 2..20:2"),
        ("steer --positions x", "all, prompt, response, last, first:N or last:N"),
        ("steer --spans x", "user, assistant"),
        ("steer --operation x", "add, ablate"),
        ("steer --magnitudes x", "-2,0,2 or -2..2:0.5"),
        ("eval --skip x", "text, generation"),
        ("eval --mc-answers x", "auto, letter, text"),
        ("eval --at x", "kl=NATS, or ppl=RATIO above 1, such as kl=1 or ppl=1.1"),
        ("eval --at foo=1", "kl=NATS, or ppl=RATIO above 1, such as kl=1 or ppl=1.1"),
        ("eval --at margin=1", "such as kl=1 or ppl=1.1 (bipo calibrate has margin=NATS)"),
        ("train --layer x", "expected a whole number of at least 0"),
        ("train --seed abc", "expected a whole number of at least 0"),
        ("train --split a", "expected a whole number of at least 0"),
        ("train --warmup-steps 1.5", "expected a whole number of at least 0"),
        ("steer --layer x", "expected a whole number of at least 0"),
        ("eval --seed x", "expected a whole number of at least 0"),
        ("merge -o m --layer x", "expected a whole number of at least 0"),
        ("train --threads x", "expected a whole number from 1 to 512"),
        ("judge t --judge-concurrency 0", "expected a whole number from 1 to 256"),
        ("export v --to x -o e", "vllm-lens, easysteer, vllm-merged, llama.cpp, lm-eval, pyvene"),
        ("data x --rank x", "best-worst, adjacent, all"),
        ("data x --pairs x", "all, first"),
        ("data x --columns x", "question=NAME,chosen=NAME,rejected=NAME,system=NAME"),
        ("bench --shape x", "smollm2-135m"),
        ("completions x", "bash, elvish, fish, powershell, zsh"),
    ];
    for (words, right) in wrong {
        let line = told(&words.split(' ').collect::<Vec<_>>());
        assert!(line.starts_with("invalid value ") && line.contains(right), "{words}: {line}");
    }
    let at = told(&["eval", "--at", "foo=1"]);
    assert!(!at.contains("margin"), "{at}");
}

#[cfg(feature = "serve")]
#[test]
fn a_wrong_address_of_the_server_is_told_a_right_one() {
    for (words, right) in [
        (["serve", "--host", "foo"], "expected an IP address such as 127.0.0.1 or 0.0.0.0"),
        (["serve", "--port", "70000"], "expected a whole number from 0 to 65535"),
        (["serve", "--slots", "x"], "expected a whole number from 1 to 512"),
        (["serve", "--layer", "x"], "expected a whole number of at least 0"),
    ] {
        let line = told(&words);
        assert!(line.starts_with("invalid value ") && line.contains(right), "{line}");
    }
}

/// The examples that a help ends with.
fn examples(help: &str) -> Vec<&str> {
    let (_, examples) = help.rsplit_once("Examples:\n").unwrap_or_default();
    examples.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The words of an example from `bipo` on, up to what a shell does with its output.
fn words(example: &str) -> Vec<String> {
    let from = example.find("bipo ").unwrap_or_else(|| panic!("{example}"));
    let own = example[from..].split([')', '|', '>']).next().unwrap();
    let quoted = own.split('"').enumerate();
    quoted
        .flat_map(|(i, part)| if i % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_one_form_of_help_that_ends_in_two_examples_that_parse_and_fit_on_a_line() {
    let mut program = Cli::command();
    program.build();
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name();
        let help = |flag: &str| Cli::try_parse_from(["bipo", name, flag]).unwrap_err().to_string();
        assert!(help("-h") == help("--help"), "bipo {name} has a short help and another that is long");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = examples(&after);
        assert!(examples.len() >= 2, "{name}: {examples:?}");
        for example in examples {
            assert!(example.len() <= 98, "{example}");
            let words = words(example);
            Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{example}: {error}"));
            assert!(words.iter().any(|word| word == name) || name == "judge", "{name}: {example}");
        }
    }
}

/// The groups of a help, in its order.
fn groups(command: &mut clap::Command) -> Vec<String> {
    let help = command.render_help().to_string();
    let headings = help.lines().filter_map(|line| line.strip_suffix(':').filter(|line| !line.starts_with(' ')));
    let headings = headings.filter(|heading| heading.chars().all(char::is_alphabetic));
    headings.filter(|heading| !["Arguments", "Examples"].contains(heading)).map(str::to_owned).collect()
}

#[test]
fn every_flag_stands_in_a_group_and_model_machine_and_output_are_the_last_groups() {
    let mut program = Cli::command();
    program.build();
    for command in program.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let outside = command.get_arguments().filter(|argument| argument.get_long().is_some());
        let outside: Vec<&str> =
            outside.filter(|flag| flag.get_help_heading().is_none()).filter_map(clap::Arg::get_long).collect();
        assert!(outside.is_empty(), "{}: {outside:?}", command.get_name());
        let groups = groups(command);
        let shared: Vec<&str> =
            ["Model", "Machine", "Output"].into_iter().filter(|shared| groups.iter().any(|it| it == shared)).collect();
        assert!(
            groups.ends_with(&shared.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>()),
            "{}: {groups:?}",
            command.get_name()
        );
        assert!(!groups.contains(&"Options".to_owned()), "{}: {groups:?}", command.get_name());
    }
    let train = program.find_subcommand_mut("train").unwrap();
    assert_eq!(groups(train), ["Vector", "Data", "Optimisation", "Model", "Machine", "Output"]);
}

#[test]
fn help_that_is_asked_of_help_is_given() {
    for (line, kept) in
        [("bipo help -h", "bipo help"), ("bipo help train --help", "bipo help train"), ("bipo train -h", "bipo train -h")]
    {
        let words = asked(line.split(' ').map(OsString::from).collect());
        assert_eq!(words, kept.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(Cli::try_parse_from(words).unwrap_err().kind(), ErrorKind::DisplayHelp, "{line}");
    }
}

/// The commands inside the sentences of a page: code spans, a paragraph's at a time, that begin with the program's name.
fn inline_commands(page: &str) -> Vec<String> {
    let mut is_code = false;
    let prose = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    let prose = prose.collect::<Vec<_>>().join("\n");
    let spans = prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    spans.filter(|span| span.starts_with("bipo ") && !span.starts_with("bipo =")).map(|span| span.replace('\n', " ")).collect()
}

#[test]
fn commands_inside_sentences_of_the_pages_have_names_and_flags_that_there_are() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut program = Cli::command();
    program.build();
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|end| end == "md")).chain([root.join("README.md")]);
    let (mut seen, mut broken) = (0, Vec::new());
    for page in pages {
        for line in inline_commands(&std::fs::read_to_string(&page).unwrap()) {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            let (name, flags) = words.split_first().unwrap();
            let flags = flags.iter().filter_map(|word| word.strip_prefix("--")?.split('=').next());
            let is_right = match program.find_subcommand(name) {
                None => name.starts_with("--"),
                Some(command) => flags.clone().all(|flag| {
                    let is_it = |argument: &clap::Arg| {
                        let aliases = argument.get_all_aliases().unwrap_or_default();
                        argument.get_long() == Some(flag) || aliases.contains(&flag)
                    };
                    command.get_arguments().any(is_it)
                }),
            };
            seen += 1;
            if !is_right {
                broken.push(format!("{}: {line}", page.display()));
            }
        }
    }
    assert!(seen > 100, "{seen}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_default_that_the_help_writes_out_is_the_one_that_is_used() {
    let mut named = 0;
    for command in Cli::command().get_subcommands() {
        let written = |argument: &&clap::Arg| argument.is_hide_default_value_set() && !argument.is_hide_set();
        for argument in command.get_arguments().filter(written) {
            let default = argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            // What is empty or left to bipo is told in words.
            let Some(default) = default.filter(|default| !["", "auto"].contains(&default.as_str())) else { continue };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let (name, flag) = (command.get_name(), argument.get_id());
            assert!(help.contains(&format!("[default: {default}")), "{name} --{flag} is {default}: {help}");
            named += 1;
        }
    }
    assert!(named >= 5, "{named}");
}
