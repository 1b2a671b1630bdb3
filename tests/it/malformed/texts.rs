//! Rows: chat templates, prompts, texts, rubrics, and the files of a judge.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::Case;

pub fn cases() -> Vec<Case> {
    [templates(), prompts(), judges(), kinds_of_file()].into_iter().flatten().collect()
}

fn templates() -> Vec<Case> {
    let template = |source: &str, says| Case::steer("--template t.jinja", says).file("t.jinja", source);
    let deep = format!("{}1{}", "{{ (".to_owned() + &"(".repeat(100_000), ")".repeat(100_001) + " }}");
    vec![
        template("{% for", "t.jinja: line 1"),
        template("{{ messages[0].nothing.at.all }}", "t.jinja: line 1"),
        template("{{ raise_exception('no such role\nat all') }}", "refuses the conversation: no such role\\nat all"),
        template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "still running after"),
        template("{% set ns = namespace(t='x') %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}", "t.jinja"),
        template("{{ 'x' * 100000000000 }}", "t.jinja"),
        template("{{ '%999999999d' | format(1) }}", "out of all proportion"),
        template("{{ 'a' | indent(99999999999) }}", "out of all proportion"),
        template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "t.jinja"),
        template("{% include 't.jinja' %}", "t.jinja"),
        template("{% include '/etc/passwd' %}", "t.jinja"),
        template(&deep, "t.jinja"),
        Case::steer("--template t.jinja", "not UTF-8").file("t.jinja", b"caf\xe9".to_vec()),
        Case::model("chat_template.jinja", "{{ oops(", "chat_template.jinja: line 1"),
        Case::model("tokenizer_config.json", r#"{"eos_token":"</s>","chat_template":"{% for"}"#, "chat template m: line 1"),
    ]
}

fn prompts() -> Vec<Case> {
    let prompts = |bytes: &[u8], says| Case::steer("--prompts p.txt", says).file("p.txt", bytes);
    let eval = |flags: &str, says| Case::new(&format!("eval --model MODEL --vector v.safetensors {flags}"), says);
    vec![
        prompts(b"", "no prompt in it"),
        prompts(b"\n \r\n\t\n", "no prompt in it"),
        prompts(b"\xff\xfeh\0i\0", "not UTF-8"),
        prompts("word ".repeat(1 << 18).as_bytes(), "context is 512"),
        eval("--text t.txt", "the file is empty").file("t.txt", " \n"),
        eval("--text t.txt", "not UTF-8").file("t.txt", vec![0xff; 9]),
        eval("--baseline prompt", "give --baseline-system"),
        eval("--baseline nowhere.pt", "expected --baseline random, prompt or a vector file"),
        eval("--skip text,generation", "nothing to measure"),
    ]
}

fn judges() -> Vec<Case> {
    let judge = |flags: &str, says| Case::new(&format!("judge texts.json {flags}"), says);
    let dry = |texts: &str, says| judge("--judge-dry-run --rubric formal", says).file("texts.json", texts);
    let good = r#"{"results":[{"prompt":"a","magnitude":1,"text":"b"}]}"#;
    let asking = "--judge http://127.0.0.1:9/v1 --judge-model m --rubric formal --judge-results r.jsonl";
    let results = |bytes: &str, says| judge(asking, says).file("texts.json", good).file("r.jsonl", bytes);
    vec![
        judge("--judge-dry-run --rubric formal", "texts.json"),
        dry("", "no text in it"),
        dry("{\"results\":[]}", "no text in it"),
        dry("{\"results\":[{\"prompt\":1}]}", "expected texts as"),
        dry(&"[".repeat(1 << 20), "expected texts as"),
        dry(r#"[{"prompt":"a","magnitude":1e999,"text":"b"}]"#, "expected texts as"),
        judge("--judge-dry-run --rubric r.txt", "empty").file("texts.json", good).file("r.txt", "\n"),
        judge("--judge-dry-run --rubric r.txt", "it is sent with every request").file("r.txt", "x".repeat(1 << 20)),
        results("nonsense\n", "line 1 is no result of a judge"),
        results("{\"key\":\"a\",\"score\":9}\n", "line 1 is no result of a judge"),
        results(&"{".repeat(1 << 20), "line 1 is no result of a judge"),
    ]
}

/// What is no file of bytes: directories, pipes that nobody writes to, devices without end, links in a circle.
fn kinds_of_file() -> Vec<Case> {
    let commands = [
        ("train --model MODEL --output-dir out --dataset", "p.csv"),
        ("train --model MODEL --output-dir out --dataset pairs.csv --init", "p.pt"),
        ("steer --model MODEL --vector v.safetensors --prompts", "p.txt"),
        ("steer --model MODEL --prompt a --vector", "p.safetensors"),
        ("steer --model MODEL --vector v.safetensors --prompt a --template", "p.jinja"),
        ("eval --model MODEL --vector v.safetensors --mc", "p.csv"),
        ("eval --model MODEL --vector v.safetensors --text", "p.txt"),
        ("judge --judge-dry-run --rubric formal", "p.json"),
        ("judge texts.json --judge-dry-run --rubric", "p.txt"),
        ("inspect", "p.npy"),
        ("convert --force v.safetensors", "p.pt"),
    ];
    let mut cases = Vec::new();
    for (command, name) in commands {
        let line = format!("{command} {name}");
        let is_output = command.starts_with("convert");
        if !is_output {
            cases.push(Case::new(&line, name).arrange(move |dir| {
                assert!(Command::new("mkfifo").arg(dir.join(name)).status().unwrap().success());
            }));
            cases.push(Case::new(&line, name).arrange(move |dir| symlink(name, dir.join(name)).unwrap()));
            cases.push(Case::new(&line, name).arrange(move |dir| symlink("/dev/zero", dir.join(name)).unwrap()));
        }
        cases.push(Case::new(&line, name).arrange(move |dir| fs::create_dir(dir.join(name)).unwrap()));
    }
    cases
}
