//! Data sets: two synthetic kinds, made here, and files. Knows nothing of indexes or backends.
//!
//! `normal`: independent standard normal values. No neighbourhood structure, so recall stays low;
//! it is the workload that times are compared on.
//! `clustered`: a mixture of Gaussians with uneven weights; the spread and the centres share a
//! spectrum that decays like 1/(i+1), then everything is rotated at random. Recall at a given
//! nprobe means something here.
//!
//! Both are drawn in blocks, each from its own stream of one generator, so a data set depends on
//! the seed and the shape and not on the number of threads. Any stretch of rows can be drawn by itself,
//! so with `--piece` no more than a piece of the base is ever held (`Base::Drawn`).

use crate::Res;
use crate::args::{DataArgs, ExportArgs, QUERY_POOL};
use crate::files;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::Path;

/// Row-major vectors.
pub struct Matrix {
    pub values: Vec<f32>,
    pub d: usize,
}

impl Matrix {
    pub fn new(values: Vec<f32>, d: usize) -> Res<Self> {
        if d == 0 || !values.len().is_multiple_of(d) {
            return Err(format!("{} values do not form rows of {d}", values.len()).into());
        }
        Ok(Self { values, d })
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.d
    }

    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows * self.d);
    }

    fn normalize(&mut self) {
        let d = self.d;
        self.values.chunks_exact_mut(d).for_each(unit);
    }
}

/// Scales a row to length 1.
fn unit(row: &mut [f32]) {
    let squares = row.iter().map(|x| f64::from(*x) * f64::from(*x));
    let norm = squares.sum::<f64>();
    if norm > 0.0 {
        let scale = 1.0 / norm.sqrt();
        row.iter_mut()
            .for_each(|x| *x = (f64::from(*x) * scale) as f32);
    }
}

/// The base vectors: held, or drawn again whenever they are looked at.
pub enum Base {
    Held(Matrix),
    Drawn { drawing: Drawing, rows: usize },
}

/// Rows looked at together by whoever goes through a whole base.
pub const STRETCH: usize = 64 << 10;

impl Base {
    pub fn rows(&self) -> usize {
        match self {
            Self::Held(matrix) => matrix.rows(),
            Self::Drawn { rows, .. } => *rows,
        }
    }

    pub fn d(&self) -> usize {
        match self {
            Self::Held(matrix) => matrix.d,
            Self::Drawn { drawing, .. } => drawing.d,
        }
    }

    /// Rows `from .. from + n`, one after the other.
    pub fn block(&self, from: usize, n: usize) -> Cow<'_, [f32]> {
        match self {
            Self::Held(matrix) => Cow::Borrowed(&matrix.values[from * matrix.d..][..n * matrix.d]),
            Self::Drawn { drawing, .. } => Cow::Owned(drawing.rows(from, n)),
        }
    }

    pub fn row(&self, i: usize) -> Cow<'_, [f32]> {
        self.block(i, 1)
    }
}

pub struct DataSet {
    pub name: String,
    pub seed: u64,
    pub base: Base,
    pub queries: Matrix,
    /// Base vectors drawn and added at a time; all at once if `None`.
    pub piece: Option<usize>,
}

/// Loads or draws what `args` describes, with at least `nq` queries.
pub fn load(args: &DataArgs, nq: usize) -> Res<DataSet> {
    let (base, mut queries) = match args.data.as_str() {
        "normal" | "clustered" => {
            let (rows, d) = (args.nb.unwrap_or(262_144), args.d.unwrap_or(128));
            let drawing = Drawing::new(&args.data, d, args.seed, args.normalize)?;
            let queries = Matrix::new(drawing.rows(rows, nq.max(QUERY_POOL)), d)?;
            let base = match args.piece {
                Some(_) => Base::Drawn { drawing, rows },
                None => Base::Held(Matrix::new(drawing.rows(0, rows), d)?),
            };
            (base, queries)
        }
        path if args.piece.is_some() => {
            return Err(format!("--piece is for vectors that are drawn, not for {path}").into());
        }
        path => {
            let (mut base, queries) = from_files(args, Path::new(path))?;
            if args.normalize {
                base.normalize();
            }
            (Base::Held(base), queries)
        }
    };
    if queries.rows() < nq {
        let (have, name) = (queries.rows(), &args.data);
        return Err(format!("{nq} queries asked for, `{name}` comes with {have}").into());
    }
    if args.normalize {
        queries.normalize();
    }
    Ok(DataSet {
        name: args.data.clone(),
        seed: args.seed,
        base,
        queries,
        piece: args.piece,
    })
}

fn from_files(args: &DataArgs, path: &Path) -> Res<(Matrix, Matrix)> {
    let Some(queries) = &args.queries else {
        return Err(format!("--data {} needs --queries FILE too", path.display()).into());
    };
    let mut base = files::read_matrix(path)?;
    let queries = files::read_matrix(queries)?;
    if base.d != queries.d {
        let (b, q) = (base.d, queries.d);
        return Err(format!("base has {b} dimensions, the queries have {q}").into());
    }
    if let Some(d) = args.d
        && d != base.d
    {
        return Err(format!("--d {d}, but the file has {} dimensions", base.d).into());
    }
    if let Some(nb) = args.nb {
        if nb > base.rows() {
            return Err(format!("--nb {nb}, but the file has {} rows", base.rows()).into());
        }
        base.truncate(nb);
    }
    Ok((base, queries))
}

/// A synthetic set without an end: base rows first, then queries of the same distribution.
pub struct Drawing {
    mixture: Option<Mixture>,
    d: usize,
    seed: u64,
    /// Whether rows are scaled to length 1.
    unit: bool,
}

impl Drawing {
    pub fn new(kind: &str, d: usize, seed: u64, unit: bool) -> Res<Self> {
        let mixture = match kind {
            "normal" => None,
            "clustered" => Some(Mixture::new(d, seed)),
            other => return Err(format!("no data set `{other}`: normal or clustered").into()),
        };
        Ok(Self {
            mixture,
            d,
            seed,
            unit,
        })
    }

    /// Rows `from .. from + n`, in parallel over blocks that each have a random stream of their own.
    pub fn rows(&self, from: usize, n: usize) -> Vec<f32> {
        const BLOCK: usize = 1024;
        let d = self.d;
        let first = from / BLOCK;
        let ahead = from - first * BLOCK;
        let mut values = vec![0.0_f32; (ahead + n) * d];
        let blocks = values.par_chunks_mut(BLOCK * d).enumerate();
        blocks.for_each(|(number, block)| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream((first + number) as u64 + 1);
            for row in block.chunks_exact_mut(d) {
                match &self.mixture {
                    Some(mixture) => mixture.draw(&mut rng, row),
                    None => row.iter_mut().for_each(|x| *x = rng.sample(StandardNormal)),
                }
                if self.unit {
                    unit(row);
                }
            }
        });
        if ahead > 0 {
            values.drain(..ahead * d);
        }
        values
    }
}

/// The distribution behind `clustered`.
pub struct Mixture {
    /// Centres before scaling and rotation, row-major.
    centres: Vec<f32>,
    /// Running sum of the weights, last value 1.
    cumulative: Vec<f64>,
    /// Scaled rotation: row `i` is where axis `i` ends up, times that axis' share of the energy.
    axes: Vec<f32>,
    d: usize,
}

impl Mixture {
    const CENTRES: usize = 1500;
    const CENTRE_SPREAD: f32 = 0.8;
    const SPREAD: f32 = 0.6;

    fn new(d: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let normal = |rng: &mut ChaCha8Rng| rng.sample::<f32, _>(StandardNormal);
        let centres = (0..Self::CENTRES * d).map(|_| Self::CENTRE_SPREAD * normal(&mut rng));
        let centres = centres.collect();
        // Heavy-tailed weights: a few clusters hold many rows, most hold few.
        let weights: Vec<f64> = (0..Self::CENTRES)
            .map(|_| rng.random::<f64>().max(1e-9).powf(-0.5) - 0.8)
            .collect();
        let total: f64 = weights.iter().sum();
        let cumulative = weights
            .iter()
            .scan(0.0, |sum, w| {
                *sum += w / total;
                Some(*sum)
            })
            .collect();
        let mut axes = rotation(d, &mut rng);
        let energy: f64 = (0..d).map(|i| 1.0 / (i as f64 + 1.0)).sum();
        for (i, axis) in axes.chunks_exact_mut(d).enumerate() {
            let scale = (d as f64 / energy / (i as f64 + 1.0)).sqrt() as f32;
            axis.iter_mut().for_each(|x| *x *= scale);
        }
        Self {
            centres,
            cumulative,
            axes,
            d,
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng, row: &mut [f32]) {
        let at = rng.random::<f64>();
        let cluster = self.cumulative.partition_point(|sum| *sum < at);
        let cluster = cluster.min(Self::CENTRES - 1);
        let centre = &self.centres[cluster * self.d..(cluster + 1) * self.d];
        row.fill(0.0);
        for (start, axis) in centre.iter().zip(self.axes.chunks_exact(self.d)) {
            let along = start + Self::SPREAD * rng.sample::<f32, _>(StandardNormal);
            row.iter_mut().zip(axis).for_each(|(x, a)| *x += along * a);
        }
    }
}

/// A random orthonormal basis: Gram-Schmidt on normal vectors, each cleaned twice against rounding.
fn rotation(d: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(d);
    while rows.len() < d {
        let mut row: Vec<f64> = (0..d).map(|_| rng.sample(StandardNormal)).collect();
        for _ in 0..2 {
            for done in &rows {
                let along: f64 = done.iter().zip(&row).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(done).for_each(|(x, a)| *x -= along * a);
            }
        }
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 1e-6 {
            row.iter_mut().for_each(|x| *x /= norm);
            rows.push(row);
        }
    }
    rows.into_iter().flatten().map(|x| x as f32).collect()
}

/// The `data` sub-command.
pub fn export(args: &ExportArgs) -> Res<()> {
    let mut set = load(&args.data, args.nq)?;
    set.queries.truncate(args.nq);
    std::fs::create_dir_all(&args.out)?;
    let (rows, d) = (set.base.rows(), set.base.d());
    let path = args.out.join("base.npy");
    let mut file = files::NpyOut::create(&path, rows, d)?;
    let piece = args.data.piece.unwrap_or(rows).max(1);
    for from in (0..rows).step_by(piece) {
        file.write(&set.base.block(from, piece.min(rows - from)))?;
    }
    file.finish()?;
    eprintln!("{}: {rows} x {d}", path.display());
    let path = args.out.join("queries.npy");
    files::write_npy(&path, &set.queries)?;
    eprintln!("{}: {} x {d}", path.display(), set.queries.rows());
    Ok(())
}
