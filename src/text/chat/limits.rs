//! Checks before those of the engine's filters that allocate at once as much as a template asks for. An absurdly large number
//! would end the process before [`bounded`](super::bounded) could give the template up.

use minijinja::value::{Kwargs, Rest, StringInput, Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};

/// Largest number of elements of a list that a filter copies. A list that is multiplied by a number is lazy and can state any
/// length.
const MAX_ELEMENTS: usize = 1 << 20;

/// Largest width of an indentation, in columns.
const MAX_INDENT: usize = 1000;

/// Largest number of digits of a width or precision.
const MAX_DIGITS: usize = 3;

/// Replaces the engine's filters by versions that check their arguments first.
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

/// Refuses a format whose width or precision is absurdly large, or is itself an argument.
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
