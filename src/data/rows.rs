//! From records to pairs: which shape of the table in `shapes` a file has, which of its columns has which role, and what a row
//! gives or why it gives nothing.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::conversation::{self, PromptCells, RowPrompt};
use super::pair::{Pair, TruthfulPairs};
use super::ranking::Ranking;
use super::shapes::{
    CHOSEN, CONTINUES, OPTIONAL, OTHER_DATA, PROMPT, PROMPT_BESIDE_CONVERSATIONS, REJECTED, ResponseShape, Role, RowShape,
    SHAPES, ShapeMatch,
};
use super::table::{DataTable, Names, Record, cell, kind, plain};
use super::truthfulqa::answers;
use super::turns::{is_conversation, is_whole_conversation};
use crate::Error;

const WANTED: &str = "expected question or prompt, matching or chosen, and not_matching or rejected, each as text or as a list \
    of messages";

/// Keys of a ranked response's text, its rank (1 is the best), and its grade (more is better).
const TEXT: [&str; 6] = ["answer", "response", "text", "content", "completion", "output"];
const RANK: &str = "rank";
const GRADE: [&str; 5] = ["score", "overall_score", "rating", "pm_score", "reward"];

/// Columns that the user names: `question=Q,chosen=A,rejected=B,system=S`, each part of which may be missing. A name with dots,
/// such as `info.post`, leads into an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnNames(Vec<(Role, String)>);

impl FromStr for ColumnNames {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |part: &str| {
            Error::argument(format!("{part:?} names no column: expected question=NAME,chosen=NAME,rejected=NAME,system=NAME"))
        };
        let mut names: Vec<(Role, String)> = Vec::new();
        for part in text.split(',') {
            let (role, name) = part.split_once('=').filter(|(_, name)| !name.is_empty()).ok_or_else(|| wrong(part))?;
            let role = match role.trim() {
                "question" | "prompt" => Role::Prompt,
                "chosen" | "matching" => Role::Chosen,
                "rejected" | "not_matching" => Role::Rejected,
                "system" => Role::System,
                _ => return Err(wrong(part)),
            };
            if names.iter().any(|(known, _)| *known == role) {
                return Err(Error::argument(format!("the column of the {role} is named twice in {text:?}")));
            }
            names.push((role, name.to_owned()));
        }
        Ok(Self(names))
    }
}

impl fmt::Display for ColumnNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(role, name)| format!("{role}={name}")).collect();
        f.write_str(&parts.join(","))
    }
}

impl ColumnNames {
    fn get(&self, role: Role) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == role).map(|(_, name)| name.as_str())
    }

    /// Whether pairs can be made from a column of this name.
    pub(super) fn can_use(&self, name: &str) -> bool {
        let is_named = |(_, named): &(Role, String)| named == name || named.split('.').next() == Some(name);
        let known = SHAPES.iter().flat_map(|shape| shape.roles).chain(OPTIONAL).flat_map(|(_, names)| *names).chain(PROMPT);
        let name_in_lower_case = plain(name);
        self.0.iter().any(is_named) || known.into_iter().any(|known| *known == name_in_lower_case)
    }
}

/// How a row with several answers becomes pairs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Choice {
    pub truthful: TruthfulPairs,
    pub rank: Ranking,
}

/// What the columns of a file mean.
#[derive(Debug)]
pub(super) struct Columns {
    shape: &'static RowShape,
    found: Vec<(Role, String)>,
    /// Whether a space in front of a response only parts it from the prompt.
    is_continued: bool,
}

impl Columns {
    /// Finds the columns of a table. The error says what kind of data it is, and names the missing columns and those found.
    pub(super) fn of(table: &DataTable, names: &ColumnNames) -> Result<Self, String> {
        for (_, name) in &names.0 {
            let top = name.split('.').next().unwrap_or(name);
            if !table.columns.iter().any(|column| column == name || column == top) {
                return Err(format!("no column {name}; found {}", listed(&table.columns)));
            }
        }
        let columns = Names::of(&table.columns);
        let column = |role: Role, known: &[&str]| match names.get(role) {
            Some(name) => Ok(Some(name.to_owned())),
            None => columns.find_any(known),
        };
        for shape in SHAPES {
            let found = shape.roles.iter().map(|(role, known)| Ok(column(*role, known)?.map(|name| (*role, name))));
            let Some(mut found) = found.collect::<Result<Option<Vec<_>>, String>>()? else { continue };
            if !is_fit(shape, &found, &table.first) {
                continue;
            }
            let responses = first_response(&found, &table.first);
            let is_whole = responses.is_some_and(is_whole_conversation);
            let known = if is_whole { &PROMPT[..PROMPT_BESIDE_CONVERSATIONS] } else { PROMPT };
            match column(Role::Prompt, known)? {
                Some(prompt) => found.push((Role::Prompt, prompt)),
                // Responses that are whole conversations begin with their prompt.
                None if responses.is_some_and(is_conversation) => {}
                None => return Err(refusal(&table.columns, &[PROMPT_NAMES])),
            }
            let is_taken = |found: &[(Role, String)], name: &str| found.iter().any(|(_, taken)| taken == name);
            for (role, known) in OPTIONAL {
                let has_input = found.iter().any(|(role, name)| *role == Role::Prompt && plain(name) == "instruction");
                let is_used = |name: &String| match role {
                    Role::Input => has_input,
                    Role::History => first_cell(&table.first, name).is_some_and(Value::is_array),
                    _ => true,
                };
                let name = column(*role, known)?.filter(|name| !is_taken(&found, name) && is_used(name));
                found.extend(name.map(|name| (*role, name)));
            }
            let is_continued = found.iter().any(|(_, name)| CONTINUES.contains(&plain(name).as_str()));
            return Ok(Self { shape, found, is_continued });
        }
        let lacks = |role, names, shown| Ok::<_, String>(column(role, names)?.is_none().then_some(shown));
        let missing = [
            lacks(Role::Prompt, PROMPT, PROMPT_NAMES)?,
            lacks(Role::Chosen, CHOSEN, "matching|chosen")?,
            lacks(Role::Rejected, REJECTED, "not_matching|rejected")?,
        ];
        Err(refusal(&table.columns, &missing.into_iter().flatten().collect::<Vec<_>>()))
    }

    /// Name of the shape.
    pub(super) fn shape(&self) -> &'static str {
        self.shape.name
    }

    /// Returns the role of a column, or `None` if it is not used.
    pub(super) fn role(&self, name: &str) -> Option<String> {
        let is_of = |column: &str| column == name || column.split('.').next() == Some(name);
        self.found.iter().find(|(_, column)| is_of(column)).map(|(role, _)| role.to_string())
    }

    /// Returns the pairs of one row, and the reasons why it gives no pair or fewer than it has answers for.
    pub(super) fn pairs(&self, row: usize, record: &Record, choice: Choice) -> Vec<Result<Pair, String>> {
        self.try_pairs(row, record, choice).unwrap_or_else(|reason| vec![Err(reason)])
    }

    fn try_pairs(&self, row: usize, record: &Record, choice: Choice) -> Result<Vec<Result<Pair, String>>, String> {
        let of = |role| self.cell(role, record);
        let cells = PromptCells {
            system: of(Role::System),
            history: of(Role::History),
            prompt: of(Role::Prompt),
            input: of(Role::Input),
        };
        let mut prompt = cells.prompt()?;
        prompt.is_continued |= self.is_continued;
        let pair = |chosen: &Value, rejected: &Value| conversation::pair(row, &prompt, chosen, rejected);
        match self.shape.answers {
            ResponseShape::Two => Ok(vec![pair(of(Role::Chosen), of(Role::Rejected))]),
            ResponseShape::OneAgainstEach => {
                let mut rejected = answers(of(Role::AllRejected));
                if rejected.is_empty() {
                    return Err("there is no incorrect answer".to_string());
                }
                if choice.truthful == TruthfulPairs::First {
                    rejected.truncate(1);
                }
                let mut pairs: Vec<_> = rejected.iter().map(|answer| pair(of(Role::Chosen), answer)).collect();
                // A problem of the question is reported once, not once per answer.
                pairs.dedup_by(|next, last| next.is_err() && next == last);
                Ok(pairs)
            }
            ResponseShape::Judged(reads) => {
                let (first, second) = (of(Role::First), of(Role::Second));
                let is_first = self.verdict(reads, of(Role::Verdict))?;
                Ok(vec![if is_first { pair(first, second) } else { pair(second, first) }])
            }
            ResponseShape::Graded => {
                let grade = |role| number(of(role)).ok_or_else(|| "a response has no grade".to_string());
                let grades = [grade(Role::FirstGrade)?, grade(Role::SecondGrade)?];
                ranked(&prompt, row, &[of(Role::First), of(Role::Second)], &grades, choice.rank)
            }
            ResponseShape::Ranked => {
                let list = of(Role::Ranked);
                let list = responses(list)?;
                let beside = self.grades_beside(record, list.len());
                let graded = list.iter().enumerate().filter_map(|(index, answer)| {
                    let grade = beside.as_ref().map_or_else(|| grade_of(answer), |grades| grades[index])?;
                    Some((text_of(answer), grade))
                });
                let (texts, grades): (Vec<&Value>, Vec<f64>) = graded.unzip();
                ranked(&prompt, row, &texts, &grades, choice.rank)
            }
            ResponseShape::InOrder => {
                let list = responses(of(Role::Ranked))?;
                let grades: Vec<f64> = (0..list.len()).map(|place| -(place as f64)).collect();
                ranked(&prompt, row, &list.iter().map(text_of).collect::<Vec<_>>(), &grades, choice.rank)
            }
        }
    }

    /// Returns the cell of a role. A system prompt that none of the first rows has can occur in a later one.
    fn cell<'a>(&self, role: Role, record: &'a Record) -> &'a Value {
        if let Some((_, column)) = self.found.iter().find(|(known, _)| *known == role) {
            return at(record, column);
        }
        let late = OPTIONAL.iter().filter(|(known, _)| *known == role && role == Role::System).flat_map(|(_, names)| *names);
        late.into_iter().find_map(|name| record.get(*name)).unwrap_or(&Value::Null)
    }

    /// Whether the verdict prefers the first of two responses.
    fn verdict(&self, reads: ShapeMatch, verdict: &Value) -> Result<bool, String> {
        let name = |role| self.found.iter().find(|(known, _)| *known == role).map(|(_, name)| plain(name)).unwrap_or_default();
        let said = match verdict {
            Value::String(text) => plain(text),
            Value::Number(number) => number.as_f64().map(|number| number.to_string()).unwrap_or_default(),
            other => return Err(format!("the verdict is {}: expected one of the two responses", kind(other))),
        };
        let is_first = match reads {
            ShapeMatch::Name if ending(&said) == ending(&name(Role::First)) => Some(true),
            ShapeMatch::Name if ending(&said) == ending(&name(Role::Second)) => Some(false),
            ShapeMatch::Name => None,
            ShapeMatch::OneIsFirst => match said.as_str() {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            },
            ShapeMatch::Sign => said.parse::<f64>().ok().filter(|sign| *sign != 0.0).map(|sign| sign < 0.0),
        };
        is_first.ok_or_else(|| format!("the verdict is {said}, for neither response"))
    }

    /// Returns the grades of a list of responses, if they are a list beside it.
    fn grades_beside(&self, record: &Record, count: usize) -> Option<Vec<Option<f64>>> {
        let (_, column) = self.found.iter().find(|(role, _)| *role == Role::Grades)?;
        let grades = at(record, column).as_array().filter(|grades| grades.len() == count)?;
        let sign = if plain(column).starts_with(RANK) { -1.0 } else { 1.0 };
        Some(grades.iter().map(|grade| number(grade).map(|grade| sign * grade)).collect())
    }
}

const PROMPT_NAMES: &str = "question|prompt";

/// Says what the data is and what is missing.
fn refusal(columns: &[String], missing: &[&str]) -> String {
    let names: HashSet<String> = columns.iter().map(|column| plain(column)).collect();
    let has = |group: &&[&str]| group.iter().any(|name| names.contains(*name));
    let other = OTHER_DATA.iter().find(|(groups, _)| groups.iter().all(has));
    let kind = other.map(|(_, kind)| format!("these are no pairs but {kind}: ")).unwrap_or_default();
    format!("{kind}no column {}; found {}; {WANTED}", missing.join(", "), listed(columns))
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() { "none".to_string() } else { columns.join(", ") }
}

/// Whether the cells are what the shape needs: ranked responses are a list.
fn is_fit(shape: &RowShape, found: &[(Role, String)], first: &[Record]) -> bool {
    let is_list = |column: &String| first_cell(first, column).is_some_and(Value::is_array);
    !matches!(shape.answers, ResponseShape::Ranked | ResponseShape::InOrder) || found.iter().all(|(_, column)| is_list(column))
}

/// Returns a response of the first row that has one.
fn first_response<'a>(found: &[(Role, String)], first: &'a [Record]) -> Option<&'a Value> {
    let responses = [Role::Chosen, Role::Rejected, Role::First, Role::Second, Role::Ranked];
    found.iter().filter(|(role, _)| responses.contains(role)).find_map(|(_, column)| first_cell(first, column))
}

fn first_cell<'a>(first: &'a [Record], column: &str) -> Option<&'a Value> {
    first.iter().map(|row| at(row, column)).find(|cell| !cell.is_null())
}

/// Returns the cell of a column; a name with dots leads into an object.
fn at<'a>(record: &'a Record, column: &str) -> &'a Value {
    match (record.get(column), column.split_once('.')) {
        (None, Some((top, inner))) => {
            inner.split('.').try_fold(cell(record, top), |value, key| value.get(key)).unwrap_or(&Value::Null)
        }
        (found, _) => found.unwrap_or(&Value::Null),
    }
}

/// Makes the pairs of responses with a grade each; a higher grade is better.
fn ranked(
    prompt: &RowPrompt,
    row: usize,
    texts: &[&Value],
    grades: &[f64],
    rank: Ranking,
) -> Result<Vec<Result<Pair, String>>, String> {
    if grades.len() < 2 {
        return Err(format!("{} of the responses have a rank or a score: expected two or more", grades.len()));
    }
    let pairs = rank.pairs(grades);
    if pairs.is_empty() {
        return Err("all responses have the same rank or score".to_string());
    }
    let mut pairs: Vec<_> =
        pairs.into_iter().map(|(better, worse)| conversation::pair(row, prompt, texts[better], texts[worse])).collect();
    pairs.dedup_by(|next, last| next.is_err() && next == last);
    Ok(pairs)
}

fn responses(cell: &Value) -> Result<&[Value], String> {
    cell.as_array().map(Vec::as_slice).ok_or_else(|| format!("the responses are {}: expected a list", kind(cell)))
}

fn text_of(answer: &Value) -> &Value {
    TEXT.iter().find_map(|key| answer.get(key)).unwrap_or(answer)
}

fn grade_of(answer: &Value) -> Option<f64> {
    let rank = answer.get(RANK).and_then(number).map(|rank| -rank);
    rank.or_else(|| GRADE.iter().find_map(|key| number(answer.get(key)?)))
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|number| number.is_finite())
}

/// Returns what a name ends in: `a` for `model_a`, `0` for `response_0` and for `0`.
fn ending(name: &str) -> &str {
    name.rsplit(|letter: char| !letter.is_alphanumeric()).next().unwrap_or(name)
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
