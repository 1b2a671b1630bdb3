//! What the columns of a file of questions mean, and what one of its rows asks. Options are a list (`choices`, `options`,
//! `endings`, also with labels of their own), or one column each; the right one is named by its label, its letter, its index or its
//! text.

use serde_json::Value;

use super::letters::{letter, swapped};
use super::question::{AnswerForm, Key, Question};
use super::table::{DataTable, Names, Record, cell, kind, plain, text};
use super::truthfulqa::{targets, truthful};

/// Allowed numbers of options that are compared by their letters.
const LETTERED: std::ops::RangeInclusive<usize> = 2..=26;

/// Columns of a CSV file without a header line, such as MMLU's own files.
pub(super) const MMLU_COLUMNS: [&str; 6] = ["question", "A", "B", "C", "D", "answer"];

const QUESTION: &[&str] = &["question", "question_stem", "goal", "sentence", "ctx", "query", "problem"];
const LIST: &[&str] = &["choices", "options", "endings"];
const KEY: &[&str] = &["answerkey", "answer", "label", "answer_index", "gold", "cop"];

/// Options with a column each, and the number of the first one where the key is a number.
const COLUMNS: [(&[&str], usize); 5] = [
    (&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], 0),
    (&["opa", "opb", "opc", "opd"], 0),
    (&["sol1", "sol2"], 0),
    (&["option1", "option2"], 1),
    (&["answera", "answerb", "answerc"], 1),
];

const TRUTHFUL: [&str; 3] = ["best_answer", "correct_answers", "incorrect_answers"];
const TARGETS: [&str; 2] = ["mc1_targets", "mc2_targets"];
const BEHAVIOUR: [&str; 2] = ["answer_matching_behavior", "answer_not_matching_behavior"];
/// Letter of the option that shows the behaviour, in a file with a column for each option.
const MATCHING: &str = "matching";
/// What HellaSwag makes its context of.
const CONTEXT: [&str; 3] = ["activity_label", "ctx_a", "ctx_b"];

const WANTED: &str = "expected TruthfulQA (Question, Best Answer, Correct Answers, Incorrect Answers; or question, mc1_targets, \
    mc2_targets), items with two answers (question, answer_matching_behavior, answer_not_matching_behavior; or question, A, B, \
    matching) or options (question; choices, options, endings or A, B, C, …; answerKey, answer or label)";

/// Whether questions can be made from a column of this name.
pub(super) fn can_use(name: &str) -> bool {
    let name = plain(name);
    let columns = COLUMNS.iter().flat_map(|(names, _)| *names);
    let others = [QUESTION, LIST, KEY, &TRUTHFUL, &TARGETS, &BEHAVIOUR, &[MATCHING], &CONTEXT];
    others.into_iter().flatten().chain(columns).any(|known| *known == name)
}

/// What the columns of a file mean.
#[derive(Debug)]
pub(super) struct Items {
    question: String,
    answers: ItemAnswers,
    /// Columns of HellaSwag's context, if the file has them.
    context: Option<Vec<String>>,
    form: AnswerForm,
}

#[derive(Debug)]
enum ItemAnswers {
    /// TruthfulQA's generation task: best, correct and incorrect answers.
    Truthful([String; 3]),
    /// TruthfulQA's multiple-choice task: `mc1_targets` and `mc2_targets`.
    Targets([String; 2]),
    /// A matching and another answer.
    Behaviour([String; 2]),
    /// Two options with a column each, and the column of the matching one's letter.
    TwoOptions([String; 2], String),
    /// The column with the list of options, and the column of the right one.
    List(String, String),
    /// A column for each option, the column of the right one, and the number of the first.
    Columns(Vec<String>, String, usize),
}

impl Items {
    pub(super) fn of(table: &DataTable, form: AnswerForm) -> Result<Self, String> {
        let names = Names::of(&table.columns);
        let all = |wanted: &[&str]| wanted.iter().map(|name| names.find(name)).collect::<Result<Option<Vec<_>>, _>>();
        let answers = if let Some(columns) = exactly(all(&TARGETS)?) {
            Some(ItemAnswers::Targets(columns))
        } else if let Some(columns) = exactly(all(&TRUTHFUL)?) {
            Some(ItemAnswers::Truthful(columns))
        } else if let Some(columns) = exactly(all(&BEHAVIOUR)?) {
            Some(ItemAnswers::Behaviour(columns))
        } else {
            options(&names)?
        };
        let context = all(&CONTEXT)?;
        match (names.find_any(QUESTION)?, answers) {
            (Some(question), Some(answers)) => Ok(Self { question, answers, context, form }),
            _ => {
                let found = if table.columns.is_empty() { "none".to_owned() } else { table.columns.join(", ") };
                Err(format!("no multiple-choice columns; found {found}; {WANTED}"))
            }
        }
    }

    /// What the rows hold.
    pub(super) fn shape(&self) -> &'static str {
        match self.answers {
            ItemAnswers::Truthful(_) | ItemAnswers::Targets(_) => "TruthfulQA",
            ItemAnswers::Behaviour(_) | ItemAnswers::TwoOptions(..) => "a matching and another answer",
            ItemAnswers::List(..) | ItemAnswers::Columns(..) if self.is_by_text() => "options, compared by their texts",
            ItemAnswers::List(..) | ItemAnswers::Columns(..) => "options, compared by their letters",
        }
    }

    /// Returns what a column is to a question, or `None` if it is not used.
    pub(super) fn role(&self, name: &str) -> Option<&'static str> {
        let is_in = |columns: &[String]| columns.iter().any(|column| column == name);
        let (options, key): (&[String], Option<&String>) = match &self.answers {
            ItemAnswers::Truthful(columns) => (columns, None),
            ItemAnswers::Targets(columns) | ItemAnswers::Behaviour(columns) => (columns, None),
            ItemAnswers::TwoOptions(columns, key) => (columns, Some(key)),
            ItemAnswers::List(column, key) => (std::slice::from_ref(column), Some(key)),
            ItemAnswers::Columns(columns, key, _) => (columns, Some(key)),
        };
        match name {
            _ if key.is_some_and(|key| key == name) => Some("key"),
            _ if is_in(options) => Some("answers"),
            _ if name == self.question || self.context.as_deref().is_some_and(is_in) => Some("question"),
            _ => None,
        }
    }

    /// Returns the questions of a row, or the reason why it cannot be scored.
    pub(super) fn questions(&self, row: usize, record: &Record) -> Result<Vec<Question>, String> {
        let prompt = text("question", cell(record, &self.question))?;
        let question = |prompt: String, answers: Vec<String>, key: Key| Question { row, prompt, answers, key };
        Ok(match &self.answers {
            ItemAnswers::Truthful(columns) => {
                let (answers, key) = truthful(columns.each_ref().map(|column| cell(record, column)))?;
                vec![question(prompt, answers, key)]
            }
            ItemAnswers::Targets([mc1, mc2]) => {
                let (answers, key) = targets(cell(record, mc1), cell(record, mc2))?;
                vec![question(prompt, answers, key)]
            }
            ItemAnswers::Behaviour([matching, other]) => {
                let (matching, other) = (text(matching, cell(record, matching))?, text(other, cell(record, other))?);
                match (letter(&matching), letter(&other)) {
                    (Some(matching), Some(other)) if matching != other => both_orders(row, &prompt, matching, other)?,
                    (None, None) if matching.trim() != other.trim() => {
                        // A space in front of an answer only parts it from the question.
                        let answers = [matching, other].map(|answer| answer.trim_start().to_owned());
                        vec![question(prompt, answers.to_vec(), Key::Letters { matching: 0 })]
                    }
                    _ => {
                        let problem = format!("the answers are {matching:?} and {other:?}: expected (A) and (B), or two texts");
                        return Err(problem);
                    }
                }
            }
            ItemAnswers::TwoOptions([a, b], key) => {
                let (a, b) = (text(a, cell(record, a))?, text(b, cell(record, b))?);
                let prompt = format!("{}\n\nChoices:\n (A) {}\n (B) {}", prompt.trim_end(), a.trim(), b.trim());
                let key = text(key, cell(record, key))?;
                match letter(&key) {
                    Some('A') => both_orders(row, &prompt, 'A', 'B')?,
                    Some('B') => both_orders(row, &prompt, 'B', 'A')?,
                    _ => return Err(format!("the matching answer is {key:?}: expected A or B")),
                }
            }
            ItemAnswers::List(column, key) => {
                let (options, labels) = listed(column, cell(record, column))?;
                vec![self.optional(
                    row,
                    record,
                    &prompt,
                    &options,
                    right(cell(record, key), &options, labels.as_deref(), 0)?,
                )?]
            }
            ItemAnswers::Columns(columns, key, first) => {
                let options = columns.iter().map(|column| text(column, cell(record, column))).collect::<Result<Vec<_>, _>>()?;
                vec![self.optional(row, record, &prompt, &options, right(cell(record, key), &options, None, *first)?)?]
            }
        })
    }

    /// Whether options are compared by their texts.
    fn is_by_text(&self) -> bool {
        let are_endings = match &self.answers {
            ItemAnswers::List(column, _) => plain(column) == "endings",
            ItemAnswers::Columns(columns, ..) => columns.first().is_some_and(|column| plain(column) == "sol1"),
            _ => false,
        };
        self.form == AnswerForm::Text || self.form == AnswerForm::Auto && are_endings
    }

    /// Makes a question with options, by their letters in the format of MMLU's own prompt without examples, or by their texts
    /// in the format of lm-evaluation-harness.
    fn optional(
        &self,
        row: usize,
        record: &Record,
        question: &str,
        options: &[String],
        right: usize,
    ) -> Result<Question, String> {
        let are_endings = matches!(&self.answers, ItemAnswers::List(column, _) if plain(column) == "endings");
        if self.is_by_text() {
            let (prompt, answers) = match &self.context {
                Some(columns) if are_endings => {
                    let parts = columns.iter().map(|column| cell(record, column).as_str().unwrap_or_default());
                    (
                        hellaswag_context(&parts.collect::<Vec<_>>()),
                        options.iter().map(|option| without_marks(option)).collect(),
                    )
                }
                _ if are_endings => (question.to_owned(), options.to_vec()),
                _ => (format!("Question: {}\nAnswer:", question.trim()), options.to_vec()),
            };
            return Ok(Question { row, prompt, answers, key: Key::Texts { right } });
        }
        if !LETTERED.contains(&options.len()) {
            return Err(format!("there are {} options: expected 2 to 26", options.len()));
        }
        let letters: Vec<String> = ('A'..).take(options.len()).map(String::from).collect();
        let lines: String = letters.iter().zip(options).map(|(letter, option)| format!("{letter}. {option}\n")).collect();
        let prompt = format!("{}\n{lines}Answer:", question.trim_end());
        Ok(Question { row, prompt, answers: letters, key: Key::Options { right } })
    }
}

/// Finds the columns of options, and of the right one.
fn options(names: &Names) -> Result<Option<ItemAnswers>, String> {
    let key = names.find_any(KEY)?;
    if let (Some(list), Some(key)) = (names.find_any(LIST)?, &key) {
        return Ok(Some(ItemAnswers::List(list, key.clone())));
    }
    for (known, first) in COLUMNS {
        let columns = known.iter().map(|name| names.find(name)).collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<String> = columns.into_iter().map_while(|column| column).collect();
        match (columns.as_slice(), &key, names.find(MATCHING)?) {
            ([a, b], _, Some(matching)) => return Ok(Some(ItemAnswers::TwoOptions([a.clone(), b.clone()], matching))),
            ([_, _, ..], Some(key), _) => return Ok(Some(ItemAnswers::Columns(columns, key.clone(), first))),
            _ => {}
        }
    }
    Ok(None)
}

fn exactly<const N: usize>(found: Option<Vec<String>>) -> Option<[String; N]> {
    found?.try_into().ok()
}

/// Makes an item of two of the options that a question lists, in both orders of their texts.
fn both_orders(row: usize, prompt: &str, matching: char, other: char) -> Result<Vec<Question>, String> {
    let (x, y) = (matching.min(other), matching.max(other));
    let swapped = swapped(prompt, x, y)
        .ok_or_else(|| format!("the question has no \"({x}) …\" followed by \"({y}) …\": expected the two options in it"))?;
    let answers = vec![format!("({x}"), format!("({y}")];
    let place = usize::from(matching == y);
    let item = |prompt, matching| Question { row, prompt, answers: answers.clone(), key: Key::Letters { matching } };
    Ok(vec![item(prompt.to_owned(), place), item(swapped, 1 - place)])
}

/// Returns the options of a list, and their labels if they have any: `[…]` or `{"text": […], "label": […]}`.
fn listed(column: &str, value: &Value) -> Result<(Vec<String>, Option<Vec<String>>), String> {
    let texts = |list: &Value| match list {
        Value::Array(list) => list.iter().map(|option| text(column, option)).collect::<Result<Vec<_>, _>>(),
        other => Err(format!("{column} is {}: expected a list of options", kind(other))),
    };
    let (options, labels) = match value {
        Value::Object(map) => {
            let labels = map.get("label").or_else(|| map.get("labels"));
            let list = map.get("text").or_else(|| map.get("texts")).ok_or_else(|| format!("{column} has no list of texts"))?;
            (texts(list)?, labels.map(texts).transpose()?.filter(|labels| !labels.is_empty()))
        }
        Value::Array(list) if list.first().is_some_and(Value::is_object) => {
            let field =
                |name: &str| list.iter().map(|option| option.get(name)?.as_str().map(str::to_owned)).collect::<Option<_>>();
            let options = field("text").ok_or_else(|| format!("{column} has an option without a text"))?;
            (options, field("label"))
        }
        list => (texts(list)?, None),
    };
    if options.len() < 2 {
        return Err(format!("there are {} options: expected 2 or more", options.len()));
    }
    let labels: Option<Vec<String>> = labels.filter(|labels: &Vec<String>| labels.len() == options.len());
    Ok((options, labels))
}

/// Returns the index of the right option: by its label, its letter, its number (of which the first option has `first`), or its
/// text.
fn right(key: &Value, options: &[String], labels: Option<&[String]>, first: usize) -> Result<usize, String> {
    let count = options.len();
    let by_number = |number: usize| number.checked_sub(first).filter(|index| *index < count);
    let found = match key {
        Value::Number(number) => {
            let whole = number.as_u64().or_else(|| number.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0).map(|x| x as u64));
            whole.and_then(|number| usize::try_from(number).ok()).and_then(by_number)
        }
        Value::String(key) => {
            let key = key.trim();
            let by_label = || labels?.iter().position(|label| label.trim() == key);
            let by_letter = || letter(key).map(|letter| letter as usize - 'A' as usize).filter(|index| *index < count);
            let by_text = || options.iter().position(|option| option.trim() == key);
            by_label().or_else(by_letter).or_else(|| key.parse().ok().and_then(by_number)).or_else(by_text)
        }
        _ => None,
    };
    let last = char::from_u32('A' as u32 + count.saturating_sub(1) as u32).filter(char::is_ascii_uppercase).unwrap_or('Z');
    found.ok_or_else(|| {
        format!("the answer is {key}: expected a letter A to {last} or {first} to {}", (first + count).saturating_sub(1))
    })
}

/// Joins what HellaSwag's question is made of, as lm-evaluation-harness does.
fn hellaswag_context(parts: &[&str]) -> String {
    let [activity, a, b] = parts else { return String::new() };
    let mut letters = b.chars();
    let capitalised = letters.next().map(|first| first.to_uppercase().collect::<String>() + &letters.as_str().to_lowercase());
    without_marks(&format!("{activity}: {a} {}", capitalised.unwrap_or_default()))
}

/// Takes WikiHow's marks in square brackets out, as lm-evaluation-harness does.
fn without_marks(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, mark)) = rest.split_once('[') {
        let Some((_, behind)) = mark.split_once(']').filter(|(inside, _)| !inside.contains('\n')) else { break };
        clean.push_str(before);
        rest = behind;
    }
    clean.push_str(rest);
    clean.replace("  ", " ")
}
