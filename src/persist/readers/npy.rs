//! `.npy`: the header's text by py_literal (npyz's parser), everything else by ourselves.
//!
//! npyz 0.8 reserves whatever length a header states and multiplies a shape unchecked, so it only
//! writes here. The parser descends into every bracket; nesting is bounded before it sees the text.

use super::{Element, Layout, Source};
use crate::error::Result;
use py_literal::Value;
use std::io::Read;

/// The longest header that is parsed; NumPy refuses longer ones unless told to trust the file.
const MAX_HEADER: usize = 10_000;
/// How deep brackets may nest: a dictionary that holds a tuple needs two.
const MAX_DEPTH: usize = 8;

/// The layout that the header states, if the file has just these bytes.
pub(super) fn layout<R: Read>(source: &mut Source<R>) -> Result<Layout> {
    let header = header(source)?;
    let element = element(source, &header.descr)?;
    let (rows, d) = match header.shape[..] {
        [rows] => (rows, 1),
        [rows, d] => (rows, d),
        _ => {
            return Err(source.unsupported(
                &format!("an array of {} dimensions", header.shape.len()),
                "arrays of one or two dimensions are",
            ));
        }
    };
    if header.fortran && rows > 1 && d > 1 {
        return Err(source.unsupported(
            "an array in Fortran order, column after column,",
            "save it row by row: numpy.save(path, numpy.ascontiguousarray(x))",
        ));
    }
    if d == 0 {
        return Err(source.malformed(format!("an array of {rows} rows of 0 components")));
    }
    let bytes = rows
        .checked_mul(d)
        .and_then(|values| values.checked_mul(element.size() as u64));
    let left = source.left().unwrap_or(0);
    let (Some(bytes), Ok(rows), Ok(d)) = (bytes, usize::try_from(rows), usize::try_from(d)) else {
        return Err(source.malformed(format!("an array of {rows} x {d} values")));
    };
    if bytes != left {
        return Err(source.malformed(format!(
            "{rows} x {d} values of {} bytes take {bytes} bytes, {left} follow the header (row {} \
             is the last whole one)",
            element.size(),
            (left / (d * element.size()) as u64)
                .min(rows as u64)
                .saturating_sub(1)
        )));
    }
    Ok(Layout {
        element,
        d,
        rows,
        start: source.at(),
        prefixed: false,
    })
}

/// What a header says.
struct Header {
    descr: Value,
    fortran: bool,
    shape: Vec<u64>,
}

/// The header, parsed.
fn header<R: Read>(source: &mut Source<R>) -> Result<Header> {
    let text = header_text(source)?;
    let parsed: Value = text
        .trim_end()
        .parse()
        .map_err(|error| source.malformed(format!("the header is no Python literal: {error}")))?;
    let entries = parsed.as_dict().map_or(&[][..], Vec::as_slice);
    let entry = |name: &str| {
        let mut found = entries
            .iter()
            .filter(|(key, _)| key.as_string().is_some_and(|key| key == name));
        found.next().map(|(_, value)| value)
    };
    let (Some(descr), Some(fortran), Some(shape)) = (
        entry("descr"),
        entry("fortran_order").and_then(Value::as_boolean),
        entry("shape").and_then(Value::as_tuple),
    ) else {
        return Err(source.malformed("the header lacks descr, fortran_order or shape"));
    };
    let size = |value: &Value| value.as_integer().and_then(|size| u64::try_from(size).ok());
    let Some(shape) = shape.iter().map(size).collect() else {
        return Err(source.malformed("the header has a shape that is not of sizes"));
    };
    Ok(Header {
        descr: descr.clone(),
        fortran,
        shape,
    })
}

/// The text of the header, of a length and depth that can be parsed.
fn header_text<R: Read>(source: &mut Source<R>) -> Result<String> {
    let mut start = [0_u8; 8];
    source.fill("the header", &mut start)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err(source.malformed_at(0, "no NumPy file begins like this"));
    }
    let (version, stated) = match start[6] {
        1 => (1, usize::from(source.number::<u16>("the header")?)),
        version @ 2..=3 => (version, source.number::<u32>("the header")? as usize),
        version => (version, 0),
    };
    if !(1..=3).contains(&version) {
        return Err(source.malformed(format!("version {version} of the format, not 1, 2 or 3")));
    }
    if stated > MAX_HEADER {
        return Err(source.malformed(format!(
            "a header of {stated} bytes, more than the {MAX_HEADER} that plain arrays need"
        )));
    }
    let mut text = Vec::new();
    source.append("the header", stated, &mut text)?;
    let mut depth = 0_usize;
    for byte in &text {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(source.malformed("a header of brackets within brackets"));
        }
    }
    String::from_utf8(text).map_err(|_| source.malformed("a header that is no text"))
}

/// The type of the values.
fn element<R: Read>(source: &Source<R>, descr: &Value) -> Result<Element> {
    const REMEDY: &str = "little-endian f2, f4, f8, u1, i4 and i8 are; convert by \
                          numpy.save(path, x.astype('<f4'))";
    let Some(name) = descr.as_string() else {
        return Err(source.unsupported("a structured array", REMEDY));
    };
    Ok(match name.as_str() {
        "<f2" => Element::F16,
        "<f4" => Element::F32,
        "<f8" => Element::F64,
        "|u1" | "<u1" | ">u1" => Element::U8,
        "<i4" => Element::I32,
        "<i8" => Element::I64,
        _ => {
            let name: String = name.chars().take(16).collect();
            return Err(source.unsupported(&format!("an array of type '{name}'"), REMEDY));
        }
    })
}
