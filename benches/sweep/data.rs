//! Data sets: two synthetic kinds, made here, and files. Knows nothing of indexes or backends.
//!
//! `normal`: independent standard normal values. No neighbourhood structure, so recall stays low;
//! it is the workload that times are compared on.
//! `clustered`: a mixture of Gaussians with uneven weights; the spread and the centres share a
//! spectrum that decays like 1/(i+1), then everything is rotated at random. Recall at a given
//! nprobe means something here.
//!
//! Both are drawn in blocks, each from its own stream of one generator, so a data set depends on
//! the seed and the shape and not on the number of threads.

use crate::Res;
use crate::args::{DataArgs, ExportArgs, QUERY_POOL};
use crate::files;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;
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

    /// Rows `from .. from + n` as one slice.
    pub fn block(&self, from: usize, n: usize) -> &[f32] {
        &self.values[from * self.d..(from + n) * self.d]
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows * self.d);
    }

    fn normalize(&mut self) {
        for row in self.values.chunks_exact_mut(self.d) {
            let norm = row
                .iter()
                .map(|x| f64::from(*x) * f64::from(*x))
                .sum::<f64>();
            if norm > 0.0 {
                let scale = 1.0 / norm.sqrt();
                row.iter_mut()
                    .for_each(|x| *x = (f64::from(*x) * scale) as f32);
            }
        }
    }
}

pub struct DataSet {
    pub name: String,
    pub seed: u64,
    pub base: Matrix,
    pub queries: Matrix,
}

/// Loads or draws what `args` describes, with at least `nq` queries.
pub fn load(args: &DataArgs, nq: usize) -> Res<DataSet> {
    let (mut base, mut queries) = match args.data.as_str() {
        "normal" | "clustered" => {
            let (nb, d) = (args.nb.unwrap_or(262_144), args.d.unwrap_or(128));
            draw(&args.data, nb, d, nq.max(QUERY_POOL), args.seed)?
        }
        path => from_files(args, Path::new(path))?,
    };
    if queries.rows() < nq {
        let (have, name) = (queries.rows(), &args.data);
        return Err(format!("{nq} queries asked for, `{name}` comes with {have}").into());
    }
    if args.normalize {
        base.normalize();
        queries.normalize();
    }
    Ok(DataSet {
        name: args.data.clone(),
        seed: args.seed,
        base,
        queries,
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

/// A synthetic set: `nb` base rows, then `nq` queries of the same distribution.
pub fn draw(kind: &str, nb: usize, d: usize, nq: usize, seed: u64) -> Res<(Matrix, Matrix)> {
    let both = (nb + nq) * d;
    let mut values = vec![0.0_f32; both];
    match kind {
        "normal" => fill(&mut values, d, seed, |rng, row| {
            row.iter_mut().for_each(|x| *x = rng.sample(StandardNormal));
        }),
        "clustered" => {
            let mixture = Mixture::new(d, seed);
            fill(&mut values, d, seed, |rng, row| mixture.draw(rng, row));
        }
        other => return Err(format!("no data set `{other}`: normal or clustered").into()),
    }
    let queries = values.split_off(nb * d);
    values.shrink_to_fit();
    Ok((Matrix::new(values, d)?, Matrix::new(queries, d)?))
}

/// Fills row by row, in parallel over blocks that each have a random stream of their own.
fn fill(values: &mut [f32], d: usize, seed: u64, row: impl Fn(&mut ChaCha8Rng, &mut [f32]) + Sync) {
    const BLOCK: usize = 1024;
    let blocks = values.par_chunks_mut(BLOCK * d).enumerate();
    blocks.for_each(|(number, block)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64 + 1);
        block.chunks_exact_mut(d).for_each(|r| row(&mut rng, r));
    });
}

/// The distribution behind `clustered`.
struct Mixture {
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
    for (name, matrix) in [("base.npy", &set.base), ("queries.npy", &set.queries)] {
        let path = args.out.join(name);
        files::write_npy(&path, matrix)?;
        let (rows, d) = (matrix.rows(), matrix.d);
        eprintln!("{}: {rows} x {d}", path.display());
    }
    Ok(())
}
