//! Tests of `prompts`.

use super::*;

fn read(name: &str, content: &str, limit: Option<usize>) -> Result<Vec<Vec<(String, String)>>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    let set = load_prompts(&Source::parse(path.to_str().unwrap())?, limit, &FetchOptions::offline())?;
    let plain = |messages: Vec<Message>| messages.into_iter().map(|m| (m.role, m.content)).collect();
    Ok(set.prompts.into_iter().map(plain).collect())
}

fn users(texts: &[&str]) -> Vec<Vec<(String, String)>> {
    texts.iter().map(|text| vec![("user".to_owned(), (*text).to_owned())]).collect()
}

#[test]
fn prompts_are_lines_or_a_column_of_any_format() {
    let two = users(&["How, then?", "Why?"]);
    assert_eq!(read("p.txt", "\u{feff}How, then?\n\n  \r\nWhy?\r\n", None).unwrap(), two);
    assert_eq!(read("prompts", "How, then?\nWhy?", None).unwrap(), two);
    assert_eq!(read("p.csv", "id,Prompt\n1,\"How, then?\"\n2,Why?\n", None).unwrap(), two);
    assert_eq!(read("p.csv", "question,matching,not_matching\n\"How, then?\",a,b\nWhy?,c,d\n", None).unwrap(), two);
    assert_eq!(read("p.jsonl", "{\"prompt\": \"How, then?\"}\n{\"prompt\": \"Why?\"}\n", None).unwrap(), two);
    assert_eq!(read("p.txt", "How, then?\nWhy?\nWhat?\n", Some(2)).unwrap(), two);
    assert_eq!(read("p.csv", "prompt\n\"How, then?\"\nWhy?\nWhat?\n", Some(2)).unwrap(), two);
    assert_eq!(read("p.txt", "[INST] Cook it\nWhy?\n", None).unwrap(), users(&["[INST] Cook it", "Why?"]));
    let messages = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#;
    let said = |role: &str, content: &str| (role.to_owned(), content.to_owned());
    assert_eq!(read("p", messages, None).unwrap(), [[said("system", "Be brief."), said("user", "Hi")]]);
    assert!(load_prompts(&Source::parse("cheerful").unwrap(), Some(3), &FetchOptions::offline()).unwrap().prompts.len() == 3);
}

#[test]
fn what_holds_no_prompt_is_refused_with_the_row_or_the_columns() {
    for (name, content, expected) in [
        ("p.txt", "\n \n", "no prompt in it"),
        ("p.csv", "prompt\n", "no prompt in it"),
        ("p.csv", "text,label\na,b\n", "no column of prompts; found text, label"),
        ("p.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \" \"}\n", "row 1: the prompt is empty"),
        ("p.jsonl", "{\"prompt\": 7}\n", "row 0: the prompt is a number"),
    ] {
        let error = read(name, content, None).unwrap_err().to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{content:?}: {error}");
    }
}
