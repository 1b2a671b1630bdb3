//! Values as Python sees and writes them, since chat templates are written for Jinja in Python: which values can be iterated,
//! and the text of constants, numbers, lists and dicts.

use std::fmt::{self, Write};

use minijinja::value::{Value, ValueKind};

/// Returns what Python's `str` returns.
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = write(&mut text, value);
    text
}

/// Writes what Python's `str` returns.
pub fn write(out: &mut impl Write, value: &Value) -> fmt::Result {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => write!(out, "{value}"),
        _ => write_repr(out, value),
    }
}

/// Whether Python's `iter` takes the value. An undefined one is an empty sequence there, and `None` is none.
pub fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String => true,
        ValueKind::None => false,
        _ => value.try_iter().is_ok(),
    }
}

fn write_repr(out: &mut impl Write, value: &Value) -> fmt::Result {
    match value.kind() {
        ValueKind::Undefined => out.write_str("Undefined"),
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => write_float(out, number),
            Err(_) => write!(out, "{value}"),
        },
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.write_char('[')?;
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                write_repr(out, &item)?;
            }
            out.write_char(']')
        }
        ValueKind::Map => {
            out.write_char('{')?;
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                write_repr(out, &key)?;
                out.write_str(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default())?;
            }
            out.write_char('}')
        }
        _ => write!(out, "{value}"),
    }
}

/// Python's `repr` of a float: the shortest digits that give the number back, with an exponent below 1e-4 and from 1e16 on.
fn write_float(out: &mut impl Write, number: f64) -> fmt::Result {
    let magnitude = number.abs();
    if number.is_nan() {
        out.write_str("nan")
    } else if number.is_infinite() {
        out.write_str(if number > 0.0 { "inf" } else { "-inf" })
    } else if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        write!(out, "{number:?}")
    } else {
        let scientific = format!("{number:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        write!(out, "{digits}e{sign}{exponent:0>2}")
    }
}

/// Python's `repr` of a text.
fn write_quoted(out: &mut impl Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for letter in text.chars() {
        match letter {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            letter if letter == quote => write!(out, "\\{letter}")?,
            letter if is_printable(letter) => out.write_char(letter)?,
            letter => match u32::from(letter) {
                code @ ..=0xff => write!(out, "\\x{code:02x}")?,
                code @ ..=0xffff => write!(out, "\\u{code:04x}")?,
                code => write!(out, "\\U{code:08x}")?,
            },
        }
    }
    out.write_char(quote)
}

/// Rust's `Debug` of a text and Python's `repr` leave the same characters as they are, quotes aside. A combining character
/// counts as printable behind another character only.
fn is_printable(letter: char) -> bool {
    matches!(letter, '"' | '\'') || format!("a{letter}").escape_debug().nth(1) == Some(letter)
}

#[cfg(test)]
#[path = "python_tests.rs"]
mod tests;
