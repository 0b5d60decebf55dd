//! `convert`: vectors between formats, row by row as far as memory goes; indexes to and from faiss.

use crate::{
    Context,
    args::{Convert, Target},
    index::{AnyIndex, Format, block_rows, vectors as open},
    output::{Done, Failure, Out, count, fail, usage},
    outputs,
    progress::Progress,
};
use burn_ivf::{
    IvfBackend,
    io::{Element, VectorFile, VectorFormat, replace_file},
};
use npyz::{AutoSerialize, WriteOptions, WriterBuilder};
use serde_json::json;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

/// Converts an index.
pub fn index<B: IvfBackend>(args: &Convert, context: &mut Context, device: &B::Device) -> Done {
    if args.target() == Target::Vectors {
        return usage(format!(
            "{} is no file of vectors, it cannot become {}; an index goes to .faiss or to this library's file",
            args.from.display(),
            args.to.display()
        ));
    }
    outputs::check([&*args.from], [Some(&args.to)])?;
    let spinner = context.progress.spinner("converting");
    let (index, format) = AnyIndex::<B>::load(&args.from, device)?;
    let (to, at) = (&args.to, Failure::at(&args.to));
    match (&index, args.target()) {
        (AnyIndex::Flat(index), Target::Faiss) => index.write_faiss(to),
        (AnyIndex::Ivf(index), Target::Faiss) => index.write_faiss(to),
        (AnyIndex::Flat(index), _) => index.save(to),
        (AnyIndex::Ivf(index), _) => index.save(to),
        (AnyIndex::Mapped(_), _) => Ok(()), // load() gives none
    }
    .map_err(at)?;
    spinner.finish_and_clear();
    let name = |faiss: bool| if faiss { "faiss" } else { "burn-ivf" };
    let (from_format, to_format) = (
        name(format == Format::Faiss),
        name(args.target() == Target::Faiss),
    );
    let value = json!({
        "from": args.from, "from_format": from_format, "to": args.to, "to_format": to_format,
        "n": index.ntotal(), "d": index.d(),
    });
    let text = format!(
        "{}: {} x {} as {to_format}",
        args.to.display(),
        count(index.ntotal()),
        index.d()
    );
    context.out.report(&value, text)
}

/// Converts vectors or ids, block by block.
pub fn vectors(args: &Convert, progress: &Progress, out: &mut Out) -> Done {
    let Ok(format) = VectorFormat::of(&args.to) else {
        return usage(format!(
            "{} holds vectors; write .npy, .fvecs, .bvecs or .ivecs, or make an index with `burn-ivf build`",
            args.from.display()
        ));
    };
    if args.format.is_some_and(|target| target != Target::Vectors) {
        return usage("vectors become an index by `burn-ivf build`");
    }
    outputs::check([&*args.from], [Some(&args.to)])?;
    let mut input = open(&args.from)?;
    let (n, d) = (input.len(), input.d());
    let conversion = Conversion {
        from: &args.from,
        to: &args.to,
        progress,
    };
    let (input, rows, ids) = (&mut input, VectorFile::read_block, VectorFile::read_ids);
    match (format, input.element()) {
        (VectorFormat::Npy, Element::U8) => conversion.npy(input, rows, byte),
        (VectorFormat::Npy, Element::I32) => conversion.npy(input, ids, int),
        (VectorFormat::Npy, Element::I64) => conversion.npy(input, ids, |id, _| Ok(id)),
        (VectorFormat::Npy, _) => conversion.npy(input, rows, |x, _| Ok(x)),
        (VectorFormat::Fvecs, Element::I32 | Element::I64) => {
            conversion.prefixed(input, ids, |id, row| Ok(float(id, row)?.to_le_bytes()))
        }
        (VectorFormat::Fvecs, _) => conversion.prefixed(input, rows, |x, _| Ok(x.to_le_bytes())),
        (VectorFormat::Bvecs, _) => conversion.prefixed(input, rows, |x, row| Ok([byte(x, row)?])),
        (VectorFormat::Ivecs, _) => {
            conversion.prefixed(input, ids, |id, row| Ok(int(id, row)?.to_le_bytes()))
        }
    }?;
    let value = json!({
        "from": args.from, "to": args.to, "to_format": format.to_string(), "n": n, "d": d,
    });
    let text = format!("{}: {} x {d} as {format}", args.to.display(), count(n));
    out.report(&value, text)
}

/// A component that must be a byte.
fn byte(x: f32, row: usize) -> Done<u8> {
    if x.fract() == 0.0 && (0.0..=255.0).contains(&x) {
        return Ok(x as u8);
    }
    fail(format!(
        "row {row} holds {x}, which is no whole number from 0 to 255; write .fvecs or .npy"
    ))
}

/// A whole number that an f32 holds as it is.
fn float(id: i64, row: usize) -> Done<f32> {
    let x = id as f32;
    // Back in 128 bits: 2^63 is an f32, but no i64.
    if x as i128 == i128::from(id) {
        return Ok(x);
    }
    fail(format!(
        "row {row} holds {id}, which an f32 cannot; write .npy or .ivecs"
    ))
}

fn int(id: i64, row: usize) -> Done<i32> {
    i32::try_from(id).or_else(|_| {
        fail(format!(
            "row {row} holds {id}, which 32 bits cannot; write .npy"
        ))
    })
}

/// Reads some rows from the first one named on.
type Read<T> = fn(&mut VectorFile, usize, usize) -> burn_ivf::Result<Vec<T>>;

/// From which file to which.
struct Conversion<'a> {
    from: &'a Path,
    to: &'a Path,
    progress: &'a Progress,
}

impl Conversion<'_> {
    fn npy<X: Copy, T: AutoSerialize + Copy>(
        &self,
        input: &mut VectorFile,
        read: Read<X>,
        each: impl Fn(X, usize) -> Done<T>,
    ) -> Done {
        let shape = [input.len() as u64, input.d() as u64];
        let d = input.d();
        self.whole(|file| {
            let mut writer = WriteOptions::new()
                .default_dtype()
                .shape(&shape)
                .writer(file)
                .begin_nd()
                .map_err(|error| self.unwritten(&error))?;
            self.blocks(input, read, |at, block| {
                for (i, &x) in block.iter().enumerate() {
                    let x = each(x, at + i / d)?;
                    writer.push(&x).map_err(|error| self.unwritten(&error))?;
                }
                Ok(())
            })?;
            writer.finish().map_err(|error| self.unwritten(&error))
        })
    }

    /// Rows with their dimension before each.
    fn prefixed<X: Copy, const N: usize>(
        &self,
        input: &mut VectorFile,
        read: Read<X>,
        each: impl Fn(X, usize) -> Done<[u8; N]>,
    ) -> Done {
        let d = input.d();
        let prefix = prefix(d)?;
        self.whole(|file| {
            self.blocks(input, read, |at, block| {
                for (i, row) in block.chunks_exact(d).enumerate() {
                    let failed = |error| self.unwritten(&error);
                    file.write_all(&prefix).map_err(failed)?;
                    for &x in row {
                        file.write_all(&each(x, at + i)?).map_err(failed)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// All of the input in blocks, each with the number of its first row.
    fn blocks<T>(
        &self,
        input: &mut VectorFile,
        read: Read<T>,
        mut write: impl FnMut(usize, Vec<T>) -> Done,
    ) -> Done {
        let (n, mut start) = (input.len(), 0);
        let bar = self.progress.bar("converting", n);
        while start < n {
            let rows = block_rows(input.d()).min(n - start);
            let block = read(input, start, rows).map_err(Failure::at(self.from))?;
            write(start, block)?;
            start += rows;
            bar.set_position(start as u64);
        }
        Ok(())
    }

    fn unwritten(&self, error: &std::io::Error) -> Failure {
        Failure::Failed(format!("{}: {error}", self.to.display()))
    }

    /// Writes a file that appears when it is whole.
    fn whole(&self, write: impl FnOnce(&mut BufWriter<&mut File>) -> Done) -> Done {
        replace_file(self.to, |file| {
            let mut writer = BufWriter::new(file);
            write(&mut writer)?;
            writer.flush().map_err(|error| self.unwritten(&error))
        })
    }
}

fn prefix(d: usize) -> Done<[u8; 4]> {
    match i32::try_from(d) {
        Ok(d) => Ok(d.to_le_bytes()),
        Err(_) => fail(format!("d = {d} does not fit 32 bits; write .npy")),
    }
}
