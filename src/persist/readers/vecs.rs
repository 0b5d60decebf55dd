//! `.fvecs`, `.bvecs`, `.ivecs`: every row its dimension as i32, then its components.

use super::{Element, Layout, Number, Source};
use crate::error::Result;
use std::io::Read;

/// Rows read at once, so that their dimensions can be taken out.
const BATCH_BYTES: usize = 1 << 20;

/// The layout, from the first row and the length of the file.
pub(super) fn layout<R: Read>(source: &mut Source<R>, element: Element) -> Result<Layout> {
    let len = source.left().unwrap_or(0);
    if len == 0 {
        return Err(source.malformed("an empty file, whose dimension is not known"));
    }
    let d = dimension(source, 0)?;
    let mut layout = Layout {
        element,
        d,
        rows: 0,
        start: 0,
        prefixed: true,
    };
    let stride = layout.stride();
    if !len.is_multiple_of(stride) {
        source.go_to(0)?;
        return Err(find_ragged_row(source, &layout));
    }
    layout.rows = usize::try_from(len / stride)
        .map_err(|_| source.malformed(format!("{} rows", len / stride)))?;
    Ok(layout)
}

/// The dimension before row `row`.
fn dimension<R: Read>(source: &mut Source<R>, row: usize) -> Result<usize> {
    source.expect("the dimension of a row", 1, 4)?;
    let found: i32 = source.ahead(0, |source| source.number("the dimension of a row"))?;
    let d = usize::try_from(found).ok().filter(|&d| d > 0);
    let d = d.ok_or_else(|| source.malformed(format!("row {row} has dimension {found}")))?;
    source.skip("the dimension of a row", 4)?;
    Ok(d)
}

/// The first row that is not like the first, in a file that does not hold whole rows.
fn find_ragged_row<R: Read>(source: &mut Source<R>, layout: &Layout) -> crate::error::Error {
    let (d, size) = (layout.d, layout.element.size() as u64);
    for row in 0.. {
        let left = source.left().unwrap_or(0);
        if left < layout.stride() {
            let is = source.ahead(0, |source| dimension(source, row));
            return match is {
                Ok(other) if other != d => source.malformed(changed(row, other, d)),
                _ => source.malformed(format!(
                    "row {row} is cut off after {left} of {} bytes",
                    layout.stride()
                )),
            };
        }
        match source.ahead(0, |source| dimension(source, row)) {
            Err(error) => return error,
            Ok(other) if other != d => return source.malformed(changed(row, other, d)),
            Ok(_) => {}
        }
        if let Err(error) = source.skip("a row", 4 + d as u64 * size) {
            return error;
        }
    }
    unreachable!("the file has an end")
}

fn changed(row: usize, found: usize, d: usize) -> String {
    format!("row {row} has dimension {found}, the rows before it have {d}")
}

/// The components of `rows` rows, the first of which is row `start`, from where the source stands.
pub(super) fn read<T: Number, R: Read>(
    source: &mut Source<R>,
    d: usize,
    start: usize,
    rows: usize,
) -> Result<Vec<T>> {
    let stride = 4 + d * size_of::<T>();
    source.expect("rows", rows as u64, stride as u64)?;
    let mut out = vec![T::zeroed(); rows * d];
    let batch = (BATCH_BYTES / stride).clamp(1, rows.max(1));
    let mut raw = vec![0_u8; batch * stride];
    for (piece, out) in out.chunks_mut(batch * d).enumerate() {
        let from = source.at();
        let raw = &mut raw[..out.len() / d * stride];
        source.fill("rows", raw)?;
        for (i, (raw, out)) in raw
            .chunks_exact(stride)
            .zip(out.chunks_exact_mut(d))
            .enumerate()
        {
            let (prefix, values) = raw.split_at(4);
            let found = i32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
            if usize::try_from(found) != Ok(d) {
                let row = start + piece * batch + i;
                let at = from + (i * stride) as u64;
                return Err(source.malformed_at(
                    at,
                    format!("row {row} has dimension {found}, the rows before it have {d}"),
                ));
            }
            bytemuck::cast_slice_mut::<T, u8>(out).copy_from_slice(values);
            if cfg!(target_endian = "big") {
                for value in out.iter_mut() {
                    *value = T::from_le(*value);
                }
            }
        }
    }
    Ok(out)
}
