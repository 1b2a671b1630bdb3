//! Values of flags: names from a list, numbers in their ranges, and files with a factor.

use std::any::TypeId;
#[cfg(feature = "serve")]
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bipo::Error;
use bipo::eval::Budget;
use bipo::steering::Operation;
use bipo::steering::condition::FiringSide;
use bipo::steering::magnitudes::Magnitudes;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use serde_json::Value;
use strum::{ParseError, VariantNames};

/// One of an enum's names, which the help and the message of a wrong one list.
pub(super) fn one_of<T>() -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = ParseError> + VariantNames + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(T::VARIANTS.iter().copied()).try_map(|name| name.parse())
}

/// The operations that a vector can be used with; the third one is for training alone.
pub(super) fn operation() -> impl TypedValueParser<Value = Operation> {
    PossibleValuesParser::new(["add", "ablate"]).try_map(|name| name.parse::<Operation>())
}

/// The command whose flags of a number take one that is negative, so that what is wrong with it is told by the flag's own parser.
pub(super) fn with_negative_numbers(command: Command) -> Command {
    let numbers = [TypeId::of::<f64>(), TypeId::of::<f32>(), TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u16>()];
    command.mut_args(|arg: Arg| {
        let is_of_number = arg.get_long().is_some() && numbers.iter().any(|number| arg.get_value_parser().type_id() == *number);
        if is_of_number { arg.allow_hyphen_values(true) } else { arg }
    })
}

/// A number of the type that the flag has, such as a layer or a seed.
pub(super) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let is_whole = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit());
    let expected = if is_whole { "the number is too large" } else { "expected a whole number of at least 0" };
    text.parse().map_err(|_| expected.into())
}

/// A whole number from `low` to `high`.
pub(super) fn between(low: u16, high: u16) -> impl TypedValueParser<Value = u16> {
    move |text: &str| {
        let fits = |n: &u16| (low..=high).contains(n);
        text.parse::<u16>().ok().filter(fits).ok_or_else(|| format!("expected a whole number from {low} to {high}"))
    }
}

/// An address of this machine.
#[cfg(feature = "serve")]
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.parse().map_err(|_| "expected an IP address such as 127.0.0.1 or 0.0.0.0".into()),
    }
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number above 0".into())
}

pub(super) fn up_to_4096(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=4096).contains(n)).ok_or_else(|| "expected a whole number from 1 to 4096".into())
}

pub(super) fn resamples(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| "expected a whole number from 1 to 1000000".into())
}

fn number(text: &str, expected: &str, fits: fn(f64) -> bool) -> Result<f64, String> {
    // What is computed with is f32: there, no number may become infinite.
    let finite = |x: &f64| (*x as f32).is_finite() && fits(*x);
    text.parse().ok().filter(finite).ok_or_else(|| format!("expected {expected}"))
}

pub(super) fn positive_number(text: &str) -> Result<f64, String> {
    number(text, "a number above 0 and below 3.4e38", |x| x as f32 > 0.0)
}

pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number of at least 0 and below 3.4e38", |x| x >= 0.0)
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    number(text, "a number of seconds from 0.1 to 86400", |x| (0.1..=86400.0).contains(&x))
}

/// What a million tokens cost that a model reads, and what a million that it writes.
pub(super) fn price(text: &str) -> Result<[f64; 2], String> {
    let (read, written) = text.split_once(',').unwrap_or((text, text));
    let of = |text: &str| not_negative(text.trim()).ok();
    of(read)
        .zip(of(written))
        .map(|(read, written)| [read, written])
        .ok_or_else(|| "expected a price 0.15, or two 0.15,0.6".into())
}

/// Factors that are drawn in training.
pub(super) fn factors(text: &str) -> Result<Magnitudes, String> {
    let are_positive = |factors: &Magnitudes| factors.as_slice().iter().all(|factor| *factor > 0.0);
    text.parse().ok().filter(are_positive).ok_or_else(|| "expected numbers above 0: a list 2,4,8 or a range 2..20:2".into())
}

/// One magnitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MagnitudeArg {
    /// The largest one above 0 of the vector's calibration.
    Calibrated,
    /// The magnitude that the user gave.
    Of(f64),
}

pub(super) fn magnitude(text: &str) -> Result<MagnitudeArg, String> {
    match text {
        "auto" => Ok(MagnitudeArg::Calibrated),
        text => number(text, "a finite number, or auto", |_| true).map(MagnitudeArg::Of),
    }
}

pub(super) fn finite(text: &str) -> Result<f64, String> {
    number(text, "a finite number", |_| true)
}

pub(super) fn probability(text: &str) -> Result<f64, String> {
    number(text, "a number above 0, at most 1", |x| x as f32 > 0.0 && x <= 1.0)
}

/// Logits are divided by it: a smaller one would make them infinite.
pub(super) fn temperature(text: &str) -> Result<f64, String> {
    number(text, "0, or a number from 0.000001 and below 3.4e38", |x| x == 0.0 || x >= 1e-6)
}

/// A variable of a chat template: JSON or Python's constants, else a text.
pub(super) fn variable(text: &str) -> Result<(String, Value), String> {
    let expected = || "expected NAME=VALUE, such as enable_thinking=false".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(expected)?;
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if name.is_empty() || !name.chars().all(is_letter) || name.starts_with(|letter: char| letter.is_ascii_digit()) {
        return Err(expected());
    }
    let value = match value {
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        "None" => Value::Null,
        value => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
    };
    Ok((name.to_owned(), value))
}

/// A budget of damage, which is not what a vector must bring.
pub fn damage(text: &str) -> Result<Budget, Error> {
    let expected = "expected a budget of damage: kl=NATS, or ppl=RATIO above 1, such as kl=1 or ppl=1.1";
    match text.parse::<Budget>() {
        Ok(Budget::Margin(_)) => Err(Error::Argument(format!("{expected} (bipo calibrate has margin=NATS)"))),
        Ok(budget) => Ok(budget),
        Err(_) => Err(Error::Argument(expected.into())),
    }
}

/// Splits `FILE[:>θ]` or `FILE[:<θ]`; a file whose own name ends so wins.
pub fn condition_and_threshold(text: &str) -> Result<(PathBuf, Option<(FiringSide, f64)>), Error> {
    let whole = PathBuf::from(text);
    let sides = [(":>", FiringSide::Above), (":<", FiringSide::Below)];
    let split = sides.into_iter().find_map(|(mark, side)| text.rsplit_once(mark).map(|(file, rest)| (file, rest, side)));
    match split.filter(|_| !whole.exists()) {
        // A shell that takes > for its own leaves the colon, and whoever forgets the side leaves the number.
        None if !whole.exists() && text.rsplit_once(':').is_some_and(|(file, _)| Path::new(file).exists()) => {
            Err(Error::Argument(format!(
                "--when {text}: no such file; expected FILE, \"FILE:>NUMBER\" or \"FILE:<NUMBER\", in quotes"
            )))
        }
        None => Ok((whole, None)),
        Some((file, threshold, side)) => match threshold.trim().parse::<f64>() {
            Ok(threshold) if threshold.is_finite() => Ok((file.into(), Some((side, threshold)))),
            _ => Err(Error::Argument(format!(
                "--when {text}: {threshold:?} is not a number; expected FILE, \"FILE:>NUMBER\" or \"FILE:<NUMBER\""
            ))),
        },
    }
}

/// Splits `FILE[:SCALE]`; a file whose own name ends so wins.
pub fn vector_and_scale(text: &str) -> Result<(PathBuf, f32), Error> {
    let whole = PathBuf::from(text);
    match text.rsplit_once(':') {
        Some((file, scale)) if !whole.exists() => match scale.parse::<f32>() {
            Ok(scale) if scale.is_finite() => Ok((file.into(), scale)),
            _ => Err(Error::Argument(format!(
                "{text}: no such file, and {scale:?} is not a factor; expected FILE or FILE:FACTOR"
            ))),
        },
        _ => Ok((whole, 1.0)),
    }
}
