//! Vector files: .npy (f16, f32, f64, u8, i32, i64, all read as f32) and .fvecs.

use crate::Res;
use crate::data::Matrix;
use npyz::{DType, NpyFile, Order, TypeChar, WriterBuilder};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;

/// Reads a matrix by the file's extension.
pub fn read_matrix(path: &Path) -> Res<Matrix> {
    let named = |error: Box<dyn std::error::Error>| format!("{}: {error}", path.display());
    let matrix = match path.extension().and_then(|ext| ext.to_str()) {
        Some("npy") => read_npy(path).map_err(named)?,
        Some("fvecs") => read_fvecs(path).map_err(named)?,
        _ => return Err(format!("{}: expected .npy or .fvecs", path.display()).into()),
    };
    if let Some(at) = matrix.values.iter().position(|x| !x.is_finite()) {
        let (row, name) = (at / matrix.d, path.display());
        return Err(format!("{name}: row {row} holds a value that is not finite").into());
    }
    Ok(matrix)
}

fn open(path: &Path) -> Res<NpyFile<BufReader<File>>> {
    let reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    Ok(NpyFile::new(reader)?)
}

fn read_npy(path: &Path) -> Res<Matrix> {
    let file = open(path)?;
    let &[rows, d] = file.shape() else {
        return Err(format!("shape {:?}, expected [n, d]", file.shape()).into());
    };
    if file.order() != Order::C {
        return Err("column-major; save it row-major".into());
    }
    let values = floats(file)?;
    debug_assert_eq!(values.len() as u64, rows * d);
    Matrix::new(values, usize::try_from(d)?)
}

/// The values of any of the supported types as f32.
fn floats(file: NpyFile<BufReader<File>>) -> Res<Vec<f32>> {
    let DType::Plain(kind) = file.dtype() else {
        return Err("a structured array, expected plain numbers".into());
    };
    let values = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 4) => file.into_vec::<f32>()?,
        (TypeChar::Float, 2) => converted(file.into_vec::<half::f16>()?, half::f16::to_f32),
        (TypeChar::Float, 8) => converted(file.into_vec::<f64>()?, |x| x as f32),
        (TypeChar::Uint, 1) => converted(file.into_vec::<u8>()?, f32::from),
        (TypeChar::Int, 4) => converted(file.into_vec::<i32>()?, |x| x as f32),
        (TypeChar::Int, 8) => converted(file.into_vec::<i64>()?, |x| x as f32),
        _ => return Err(format!("values of type {kind} are not read here").into()),
    };
    Ok(values)
}

fn converted<T>(values: Vec<T>, to_f32: impl Fn(T) -> f32) -> Vec<f32> {
    values.into_iter().map(to_f32).collect()
}

/// Whole numbers of any shape, row-major (i64 or i32).
pub fn read_npy_ints(path: &Path) -> Res<Vec<i64>> {
    let file = open(path)?;
    let DType::Plain(kind) = file.dtype() else {
        return Err(format!("{}: a structured array", path.display()).into());
    };
    match (kind.type_char(), kind.size_field()) {
        (TypeChar::Int, 8) => Ok(file.into_vec::<i64>()?),
        (TypeChar::Int, 4) => Ok(file.into_vec::<i32>()?.into_iter().map(i64::from).collect()),
        _ => Err(format!("{}: type {kind}, expected i64", path.display()).into()),
    }
}

/// Records of an i32 dimension followed by that many f32, little-endian.
fn read_fvecs(path: &Path) -> Res<Matrix> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let head = bytes.first_chunk::<4>().ok_or("an empty file")?;
    let d = usize::try_from(i32::from_le_bytes(*head))?;
    let record = 4 + 4 * d;
    if d == 0 || bytes.len() % record != 0 {
        return Err(format!("{} bytes are no whole records of d = {d}", bytes.len()).into());
    }
    let mut values = Vec::with_capacity(bytes.len() / record * d);
    for row in bytes.chunks_exact(record) {
        let (size, floats) = row.split_at(4);
        if size != head {
            return Err("vectors of different dimensions".into());
        }
        let floats = floats.as_chunks::<4>().0;
        values.extend(floats.iter().map(|word| f32::from_le_bytes(*word)));
    }
    Matrix::new(values, d)
}

/// An f32 .npy that is written piece by piece.
pub struct NpyOut(npyz::NpyWriter<f32, BufWriter<File>>);

impl NpyOut {
    pub fn create(path: &Path, rows: usize, d: usize) -> Res<Self> {
        let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let options = npyz::WriteOptions::new().default_dtype();
        let shape = [rows as u64, d as u64];
        Ok(Self(options.shape(&shape).writer(out).begin_nd()?))
    }

    pub fn write(&mut self, values: &[f32]) -> Res<()> {
        Ok(self.0.extend(values.iter().copied())?)
    }

    pub fn finish(self) -> Res<()> {
        Ok(self.0.finish()?)
    }
}

/// Writes a matrix as f32 .npy.
pub fn write_npy(path: &Path, matrix: &Matrix) -> Res<()> {
    let mut file = NpyOut::create(path, matrix.rows(), matrix.d)?;
    file.write(&matrix.values)?;
    file.finish()
}

/// The shape a .npy file declares.
pub fn npy_shape(path: &Path) -> Res<Vec<u64>> {
    Ok(open(path)?.shape().to_vec())
}
