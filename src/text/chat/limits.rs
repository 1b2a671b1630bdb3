//! The engine's filters that allocate at once what a template asks for: a number out of all proportion would end the process,
//! which no thread can watch over. They are the engine's own behind a check.

use minijinja::value::{Kwargs, Rest, StringInput, Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};

/// Elements of a list that a filter copies; a list times a number has as many as the number says, without being made.
const MAX_ELEMENTS: usize = 1 << 20;

/// Columns of an indentation.
const MAX_INDENT: usize = 1000;

/// Digits of a width or precision.
const MAX_DIGITS: usize = 3;

/// Puts the checks before the engine's filters.
pub fn guard(environment: &mut Environment) {
    environment.add_filter("format", |state: &State, text: &Value, values: Rest<Value>| {
        check_format(text.as_str().unwrap_or_default())?;
        filters::format(state, text, values)
    });
    environment.add_filter("indent", indent);
    environment.add_filter("list", |state: &State, list: Value| filters::list(state, checked(list)?));
    environment.add_filter("reverse", |list: Value| filters::reverse(&checked(list)?));
    environment.add_filter("sort", |state: &State, list: Value, how: Kwargs| filters::sort(state, checked(list)?, how));
    environment.add_filter("unique", |state: &State, list: Value, how: Kwargs| filters::unique(state, checked(list)?, how));
    environment.add_filter("batch", |state: &State, list: Value, count: usize, fill: Option<Value>| {
        filters::batch(state, checked(list)?, below(count, MAX_ELEMENTS)?, fill)
    });
    environment.add_filter("slice", |state: &State, list: Value, count: usize, fill: Option<Value>| {
        filters::slice(state, checked(list)?, below(count, MAX_ELEMENTS)?, fill)
    });
}

/// Refuses a width or precision out of all proportion, or one that is an argument.
pub fn check_format(text: &str) -> Result<(), Error> {
    let is_flag = |c: char| c.is_ascii_digit() || "#- +.".contains(c);
    let long = text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > MAX_DIGITS);
    let given = text.split('%').skip(1).any(|directive| directive.trim_start_matches(is_flag).starts_with('*'));
    if !long && !given {
        return Ok(());
    }
    Err(absurd(format!("a format with a width of `*` or a number of more than {MAX_DIGITS} digits")))
}

fn indent(state: &State, text: &Value, options: Rest<Value>) -> Result<Value, Error> {
    let (width, first, blank, named): (Option<usize>, Option<bool>, Option<bool>, Kwargs) = from_args(&options)?;
    below(width.or(named.get("width")?).unwrap_or_default(), MAX_INDENT)?;
    filters::indent(StringInput::new(state, text)?, width, first, blank, named)
}

fn checked(list: Value) -> Result<Value, Error> {
    below(list.len().unwrap_or(0), MAX_ELEMENTS)?;
    Ok(list)
}

fn below(number: usize, most: usize) -> Result<usize, Error> {
    if number > most { Err(absurd(format!("{number}, more than {most}"))) } else { Ok(number) }
}

fn absurd(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{problem}: out of all proportion for a prompt"))
}
