//! `bipo judge` with a judge on the loopback interface: the table, the file of scores, and where the key goes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::cli::{Place, assert_ok, assert_refused, text};
use crate::endpoint::{Answer, Endpoint};

/// Answers each request with the score that its text names, or with a status; sends what it was asked.
fn server(status: u16) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut request = String::new();
            while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
            let length =
                request.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            request += &String::from_utf8(body).unwrap();
            let score = request.split("grade me ").nth(1).and_then(|rest| rest.get(..1)).unwrap_or("?").to_owned();
            let key = request.lines().find(|line| line.to_lowercase().starts_with("authorization")).unwrap_or("").to_owned();
            let reply = json!({"choices": [{"message": {"content": format!("Score: {score}")}}], "key": key}).to_string();
            sender.send(request).unwrap();
            let _ =
                write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reply}", reply.len());
        }
    });
    (url, receiver)
}

fn place() -> Place {
    let place = Place::new();
    let of = |magnitude: f32, score: &str| json!({"prompt": "Why?", "magnitude": magnitude, "text": format!("grade me {score}"), "token_ids": [1], "finish_reason": "stop"});
    let results = [of(-1.0, "1"), of(-1.0, "2"), of(2.0, "4"), of(2.0, "4"), of(2.0, "x")];
    let lines: String = results.iter().map(|result| format!("{result}\n")).collect();
    fs::write(place.path("sweep.jsonl"), format!("{}\n{lines}", json!({"schema_version": 1, "run": {}}))).unwrap();
    place
}

fn judge(place: &Place, key: Option<(&str, &str)>, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
    command.args(["judge", "sweep.jsonl"]).args(flags).current_dir(place.path(""));
    command.env_remove("BIPO_JUDGE_KEY").env_remove("OPENAI_API_KEY").envs(key);
    command.output().unwrap()
}

#[test]
fn each_magnitude_has_its_mean_and_a_second_run_asks_for_the_failed_alone() {
    let (place, (url, asked)) = (place(), server(200));
    let flags = ["--judge", &url, "--judge-model", "grader", "--rubric", "cheerful", "--judge-results", "scores.jsonl"];
    let output = judge(&place, None, &flags);
    assert_ok(&output);
    let lines: Vec<String> =
        text(&output.stdout).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    // s/√2 = 0.5, t(1) = 12.706
    assert_eq!(lines[3..], ["-1 1.50 -4.85 to 7.85 2 0", "+2 4.00 4.00 to 4.00 2 1"]);
    assert!(
        text(&output.stderr).contains("1 of 5 texts have no score, the first: no score: Score: x; run the command again"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(asked.try_iter().count(), 5, "one text twice for two magnitudes, one twice for its garbage");
    let again = judge(&place, None, &[&flags[..], &["--json"]].concat());
    assert_ok(&again);
    let report: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&report["schema_version"], &report["failures"], &report["resumed"]), (&1.into(), &1.into(), &4.into()));
    assert_eq!(report["verdicts"][0]["score"], 1);
    assert_eq!(report["verdicts"][4]["score"], Value::Null);
    assert!(asked.try_iter().all(|request| request.contains("grade me x")));
}

#[test]
fn a_judge_that_never_answers_is_given_up_and_what_was_graded_stays() {
    let (place, (url, _asked)) = (place(), server(200));
    let graded = ["--judge", &url, "--judge-model", "grader", "--rubric", "cheerful", "--judge-results", "scores.jsonl"];
    assert_ok(&judge(&place, None, &graded));
    let scores = fs::read_to_string(place.path("scores.jsonl")).unwrap();
    // Connections are taken, and nothing is said.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let output = judge(&place, None, &[&["--judge", &url, "--judge-timeout", "0.2"], &graded[2..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("gave no answer in 200ms (attempt 5)"), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(place.path("scores.jsonl")).unwrap(), scores);
}

#[test]
fn the_key_of_the_environment_is_sent_and_never_written() {
    for (variable, status) in
        [("BIPO_JUDGE_KEY", 200), ("OPENAI_API_KEY", 200), ("BIPO_JUDGE_KEY", 400), ("BIPO_JUDGE_KEY", 401)]
    {
        let (place, (url, asked)) = (place(), server(status));
        let flags = ["--judge", &url, "--judge-model", "grader", "--rubric", "formal", "--judge-results", "scores.jsonl", "-v"];
        let output = judge(&place, Some((variable, "sk-topsecret")), &flags);
        assert_eq!(output.status.code(), Some(i32::from(status == 401)), "{}", text(&output.stderr));
        let requests: Vec<String> = asked.try_iter().collect();
        assert!(!requests.is_empty() && requests.iter().all(|request| request.contains("Bearer sk-topsecret")));
        let mut seen = vec![text(&output.stdout), text(&output.stderr)];
        seen.extend(fs::read_dir(place.path("")).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()));
        assert!(seen.iter().all(|text| !text.contains("topsecret")), "{seen:?}");
    }
    let place = place();
    let flags = ["--judge", "http://judge.invalid/v1", "--judge-model", "m", "--rubric", "cheerful", "--judge-timeout", "0.1"];
    let output = judge(&place, Some(("BIPO_JUDGE_KEY", "bad key")), &flags);
    assert_refused(&output, &flags, "BIPO_JUDGE_KEY is not a key");
    assert!(!text(&output.stderr).contains("bad key"));
}

#[test]
fn a_dry_run_prints_each_question_once_and_needs_no_judge() {
    let place = place();
    let output = judge(&place, None, &["--rubric", "cheerful", "--judge-dry-run"]);
    assert_ok(&output);
    let printed = text(&output.stdout);
    assert!(printed.starts_with("4 questions to MODEL, nothing is asked\n"), "{printed}");
    assert_eq!(printed.matches("<answer>\ngrade me 4\n</answer>").count(), 1);
    assert_eq!(printed.matches("Grade how cheerful the answer is.").count(), 4);
}

/// Texts of four prompts at two factors. Each text names its grades, and the judge gives the one that it is asked for.
#[test]
fn axbenchs_protocol_chooses_the_factor_on_one_half_of_the_prompts_and_scores_it_on_the_other() {
    let place = Place::new();
    // Prompts 0 and 2 choose: factor 1 has 3/(1/1+1/2+1/2) = 1.5 and 2 there, factor 2 has 0 and 2. Prompts 1 and 3 score factor 1: 1.2
    // and 0.
    let grades = [[[1, 2, 2], [2, 2, 0]], [[1, 1, 2], [2, 2, 2]], [[2, 2, 2], [2, 2, 2]], [[0, 2, 2], [2, 2, 2]]];
    let text_of = |[c, i, f]: [u8; 3]| format!("concept {c}, instruction {i}, fluency {f}");
    let mut lines = String::new();
    for (prompt, texts) in grades.iter().enumerate() {
        for (index, grades) in texts.iter().enumerate() {
            let text = json!({"prompt": format!("prompt {prompt}"), "magnitude": index + 1, "text": text_of(*grades)});
            lines += &format!("{text}\n");
        }
    }
    fs::write(place.path("sweep.jsonl"), &lines).unwrap();
    let endpoint = Endpoint::new(|body, _| {
        let part = |index: usize| body["messages"][index]["content"].as_str().unwrap();
        assert!(part(0).ends_with("where N is 0, 1 or 2."), "{}", part(0));
        let aspects = [
            ("this concept is part of the answer: sevens", "concept"),
            ("what the question asks", "instruction"),
            ("how fluent", "fluency"),
        ];
        let aspect = aspects.iter().find(|(begin, _)| part(0).lines().next().unwrap().contains(begin)).unwrap().1;
        let grade = part(1).split(&format!("{aspect} ")).nth(1).unwrap().get(..1).unwrap();
        Answer::Say(format!("Score: {grade}"))
    });
    let flags = ["--judge", &endpoint.url, "--judge-model", "grader", "--concept", "sevens", "--judge-results", "scores.jsonl"];
    let output = judge(&place, None, &[&flags[..], &["--json"]].concat());
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let chosen = &report["chosen"];
    assert_eq!((&chosen["magnitude"], &chosen["chosen_with"], &chosen["chosen_on"]), (&1.0.into(), &1.75.into(), &2.into()));
    assert!((chosen["score"].as_f64().unwrap() - 0.6).abs() < 1e-12 && chosen["scored_on"] == 2, "{chosen}");
    assert!((report["factors"][0]["score"].as_f64().unwrap() - (1.5 + 1.2 + 2.0 + 0.0) / 4.0).abs() < 1e-12);
    assert_eq!((&report["factors"][1]["fluency"], &report["texts"][1]["score"]), (&1.5.into(), &0.0.into()));
    assert_eq!(
        (&report["schema_version"], &report["failures"], &report["is_suppressed"]),
        (&1.into(), &0.into(), &false.into())
    );
    // Three questions for each of seven different texts and prompts: the texts of a prompt differ, but for prompt 2.
    assert_eq!(endpoint.asked().len(), 3 * 7);

    // Suppression takes other scores from the same grades, and asks for none again: on prompts 0 and 2 factor 1 has 1.5 and 0, factor 2 none.
    let output = judge(&place, None, &[&flags[..], &["--suppress"]].concat());
    assert_ok(&output);
    assert_eq!(endpoint.asked().len(), 3 * 7);
    let printed = text(&output.stdout);
    assert!(printed.starts_with("judge grader, AxBench's protocol, suppressed concept \"sevens\"\n\n"), "{printed}");
    let rows: Vec<String> = printed.lines().skip(3).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    // (1.5 + 1.2 + 0 + 2)/4 at factor 1, and 0 everywhere at factor 2.
    assert_eq!(rows[..2], ["+1 1.00 1.75 2.00 1.18 4 0", "+2 2.00 2.00 1.50 0.00 4 0"]);
    // s/√2 = 0.4 for 1.2 and 2, times t(1) = 12.706
    assert_eq!(rows[3], "factor +1: 0.75 on the 2 texts that it is chosen on, 1.60 on 2 others, 95 % interval -3.48 to 6.68");
}

#[test]
fn axbenchs_protocol_needs_a_judge_and_two_prompts_and_no_rubric() {
    let place = place();
    let output = judge(&place, None, &["--concept", "sevens", "--judge-dry-run"]);
    assert_refused(&output, &["--concept"], "give texts of two prompts or more");
    for (flags, expected) in [
        (&["--concept", "sevens"][..], "no judge: give --judge URL"),
        (&["--concept", "sevens", "--rubric", "formal", "--judge-dry-run"], "--rubric"),
        (&["--suppress", "--rubric", "formal", "--judge-dry-run"], "--concept"),
        (&["--concept", "", "--judge-dry-run"], "--concept"),
        (&["--concept", "sevens", "--judge", "http://localhost"], "--judge-model NAME beside --judge"),
    ] {
        assert_refused(&judge(&place, None, flags), flags, expected);
    }
    let of = |prompt: &str| json!({"prompt": prompt, "magnitude": 1, "text": "x"});
    fs::write(place.path("sweep.jsonl"), format!("{}\n{}\n", of("a"), of("b"))).unwrap();
    let output = judge(&place, None, &["--concept", "sevens", "--judge-dry-run"]);
    assert_ok(&output);
    let printed = text(&output.stdout);
    assert_eq!(
        (printed.matches("2 questions to MODEL, nothing is asked").count(), printed.matches("── question").count()),
        (3, 6)
    );
    assert_eq!(printed.matches("part of the answer: sevens\n").count(), 2);
}

#[test]
fn what_a_judge_lacks_is_said_before_anything_is_asked() {
    let place = place();
    fs::write(place.path("other.json"), "{\"results\": 3}").unwrap();
    for (flags, expected) in [
        (&[][..], "no judge: give --judge URL"),
        (&["--rubric", "cheerful"], "--judge URL or --judge-dry-run beside --rubric"),
        (&["--judge-results", "a"], "beside --judge-results"),
        (&["--judge-dry-run"], "--rubric FILE or NAME beside --judge-dry-run"),
        (&["--judge", "http://localhost", "--rubric", "formal"], "--judge-model NAME beside --judge"),
        (&["--judge", "http://localhost", "--judge-model", "m"], "--rubric FILE or NAME beside --judge"),
        (&["--judge", "localhost:80/v1", "--judge-model", "m", "--rubric", "formal"], "https://host/v1"),
        (&["--judge-dry-run", "--rubric", "sad"], "no rubric \"sad\": expected a file, or cheerful"),
        (&["--judge-dry-run", "--rubric", "formal", "--json"], "--json"),
        (&["--judge-dry-run", "--rubric", "formal", "--judge-concurrency", "0"], "--judge-concurrency"),
    ] {
        assert_refused(&judge(&place, None, flags), flags, expected);
    }
    let flags = ["judge", "other.json", "--rubric", "formal", "--judge-dry-run"];
    assert_refused(&place.bipo(&flags), &flags, "other.json: in or behind line 1: expected texts as");
    let whole = fs::read_to_string(place.path("sweep.jsonl")).unwrap();
    fs::write(place.path("other.json"), format!("\u{feff}{whole}")).unwrap();
    assert_ok(&place.bipo(&flags));
    fs::write(place.path("other.json"), &whole[..whole.len() - 9]).unwrap();
    assert_refused(&place.bipo(&flags), &flags, "it ends within line 6: take that line out");
}

#[test]
fn an_evaluation_has_a_judges_mean_beside_its_other_measures_and_loses_none_to_a_judge_that_refuses() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let model = crate::cli::fixture("llama");
    let eval = |flags: &[&str]| {
        let common = ["eval", "--model", &model, "--vector", "out/steering_vector.safetensors", "--skip", "text"];
        let texts = ["--magnitudes=-1,1", "--max-new-tokens", "4", "--prompt", "grade me 1", "--prompt", "grade me 4"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
        command.args(common).args(texts).args(flags).current_dir(place.path(""));
        command.env_remove("BIPO_JUDGE_KEY").env_remove("OPENAI_API_KEY").output().unwrap()
    };
    let (url, _asked) = server(200);
    let judge = |url| ["--judge", url, "--judge-model", "grader", "--rubric", "formal"];
    let output = eval(&[&judge(&url)[..], &["--json", "--csv", "table.csv", "--report", "page.html"]].concat());
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for row in report["rows"].as_array().unwrap() {
        assert_eq!(row["measures"]["judge"]["value"], 2.5, "{row}");
    }
    let scores: Vec<&Value> = report["generations"].as_array().unwrap().iter().map(|text| &text["judge_score"]).collect();
    assert_eq!(scores, [1, 4, 1, 4]);
    assert_eq!(report["settings"]["judge"], json!({"model": "grader", "rubric": "formal"}));
    assert!(
        fs::read_to_string(place.path("table.csv")).unwrap().lines().next().unwrap().contains(",judge,judge_low,judge_high")
    );
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("<h2>Judge</h2>") && page.contains("judge: 4 of 4"), "{page}");

    let (url, _asked) = server(401);
    let output = eval(&judge(&url));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("repetition") && !text(&output.stdout).contains("judge"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr).lines().filter(|line| line.starts_with("error:")).count(), 1);

    let output = eval(&["--rubric", "formal", "--judge-dry-run"]);
    assert_ok(&output);
    assert!(text(&output.stdout).contains("questions to MODEL") && text(&output.stdout).contains("repetition"));
    let output = eval(&[&judge(&url)[..], &["--skip", "generation", "--mc", "none.csv"]].concat());
    assert_refused(&output, &["--judge", "--skip"], "--skip generation leaves a judge nothing to grade");
}
