//! NumPy's `.npy` files: a magic number, a Python dict literal with three keys, and raw data. A float vector of rank 1 is read
//! (axes of length 1 do not count). Arrays of Python objects, which are pickled, are refused.

use std::path::Path;

use half::f16;

use crate::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Multiple of bytes at which the data begin.
const ALIGNMENT: usize = 64;

/// Returns a file of format version 1.0 with little-endian f32 data of shape `(H,)`.
pub(super) fn to_bytes(v: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", v.len()).into_bytes();
    let before = MAGIC.len() + 4;
    header.resize((before + header.len() + 1).next_multiple_of(ALIGNMENT) - before - 1, b' ');
    header.push(b'\n');
    let length = (header.len() as u16).to_le_bytes();
    let data: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
    [MAGIC, &[1, 0], &length, &header, &data].concat()
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<f32>> {
    let malformed = |problem: String| Error::malformed(path, format!(".npy: {problem}"));
    let (header, data) = split(bytes).map_err(malformed)?;
    let NpyHeader { descr, shape } = Parser { rest: header }.header().map_err(malformed)?;
    let (size, decode) = decoder(&descr).map_err(malformed)?;
    if shape.is_empty() || shape.iter().filter(|n| **n != 1).count() > 1 {
        return Err(malformed(format!("shape {shape:?}, expected one vector [hidden]: save each layer by itself")));
    }
    let count = shape.iter().copied().try_fold(1_usize, usize::checked_mul);
    if count.and_then(|count| count.checked_mul(size)) != Some(data.len()) {
        let found = data.len();
        return Err(malformed(format!("shape {shape:?} of {descr} does not fit the {found} bytes of data: it is broken")));
    }
    Ok(data.chunks_exact(size).map(decode).collect())
}

fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let broken = || "the header ends early: the file is truncated or broken".to_owned();
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [version, ..] if *version > 3 => return Err(format!("version {version}: expected 1, 2 or 3")),
        _ => return Err(broken()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(broken)?;
    Ok((std::str::from_utf8(header).map_err(|_| "the header is not text".to_owned())?, data))
}

type NumberReader = fn(&[u8]) -> f32;

fn decoder(descr: &str) -> Result<(usize, NumberReader), String> {
    Ok(match descr {
        "<f4" => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        ">f4" => (4, |b| f32::from_be_bytes([b[0], b[1], b[2], b[3]])),
        "<f2" => (2, |b| f16::from_le_bytes([b[0], b[1]]).to_f32()),
        ">f2" => (2, |b| f16::from_be_bytes([b[0], b[1]]).to_f32()),
        "<f8" => (8, |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        ">f8" => (8, |b| f64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        "|O" => return Err("holds Python objects, which bipo never loads: save a float32 array".into()),
        other => return Err(format!("dtype {other:?}, expected float16, float32 or float64")),
    })
}

struct NpyHeader {
    descr: String,
    shape: Vec<usize>,
}

/// A parser of the dict literal that NumPy writes, and of no other Python.
struct Parser<'a> {
    rest: &'a str,
}

/// Largest number of axes; it is also NumPy's limit.
const MAX_AXES: usize = 64;

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<NpyHeader, String> {
        let (mut descr, mut shape, mut order) = (None, None, None);
        self.expect("{")?;
        while !self.take("}") {
            let key = self.string()?;
            self.expect(":")?;
            match key {
                "descr" if descr.is_none() => descr = Some(self.descr()?),
                "shape" if shape.is_none() => shape = Some(self.shape()?),
                // A vector has the same bytes in C order and in Fortran order.
                "fortran_order" if order.is_none() => order = Some(self.take("True") || self.take("False")),
                other => return Err(format!("header key {other:?}: expected descr, fortran_order and shape, once each")),
            }
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        match (descr, shape, order, self.rest.trim().is_empty()) {
            (Some(descr), Some(shape), Some(true), true) => Ok(NpyHeader { descr: descr.to_owned(), shape }),
            _ => Err("header: expected descr, fortran_order and shape".into()),
        }
    }

    fn descr(&mut self) -> Result<&'a str, String> {
        if self.rest.starts_with('[') {
            return Err("the dtype is structured, expected float16, float32 or float64".into());
        }
        self.string()
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        let mut shape = Vec::new();
        self.expect("(")?;
        while !self.take(")") {
            let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.rest.split_at(digits);
            shape.push(number.parse().map_err(|_| "header key \"shape\": expected whole numbers".to_owned())?);
            self.rest = rest.trim_start();
            if shape.len() > MAX_AXES {
                return Err(format!("header key \"shape\": more than {MAX_AXES} axes"));
            }
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(shape)
    }

    fn string(&mut self) -> Result<&'a str, String> {
        self.expect("'")?;
        let (text, rest) = self.rest.split_once('\'').ok_or("header: a string does not end")?;
        self.rest = rest.trim_start();
        Ok(text)
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("header: expected {token:?}; it is broken")) }
    }
}
