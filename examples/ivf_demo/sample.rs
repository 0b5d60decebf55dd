//! Reads the WordNet sample in `examples/data/wordnet` (its README says what it is).

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use npyz::{NpyFile, Order};

use crate::Result;

const FOLDER: &str = "examples/data/wordnet";

/// The files of the sample, decoded.
pub struct Sample {
    pub d: usize,
    /// `[nb, d]`
    pub base: Vec<f32>,
    /// `[nq, d]`
    pub queries: Vec<f32>,
    pub texts: Texts,
}

/// What the vectors stand for.
pub struct Texts {
    /// One per base row.
    pub glosses: Vec<Gloss>,
    /// One per query row.
    pub questions: Vec<Question>,
    /// The inner products of the best `truth_k` base rows per query, best first, made in f64 by
    /// another program.
    pub truth_ip: Vec<f32>,
    pub truth_k: usize,
}

/// A dictionary entry.
pub struct Gloss {
    pub synset: String,
    pub text: String,
}

/// A sentence and the base row of the entry it was written for.
pub struct Question {
    pub gold: usize,
    pub text: String,
}

/// The folder to read: `dir`, else the crate's own, else the one below the current directory.
pub fn locate(dir: Option<&Path>) -> Result<PathBuf> {
    let mut tried = Vec::new();
    match dir {
        Some(dir) => tried.push(dir.to_owned()),
        None => {
            // Cargo sets the variable for `cargo run`; a binary started by hand has only the
            // current directory.
            if let Some(root) = std::env::var_os("CARGO_MANIFEST_DIR") {
                tried.push(PathBuf::from(root).join(FOLDER));
            }
            tried.push(PathBuf::from(FOLDER));
        }
    }
    if let Some(found) = tried
        .iter()
        .find(|folder| folder.join("base.npy").is_file())
    {
        return Ok(found.clone());
    }
    let tried: Vec<_> = tried
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    Err(format!(
        "the WordNet sample (base.npy and its texts) is not in {}; run from the root of the \
         repository or name its folder with --data DIR",
        tried.join(" nor in ")
    )
    .into())
}

/// Reads the sample in `dir` and checks that its files belong together.
pub fn read(dir: &Path) -> Result<Sample> {
    let ([nb, d], base) = matrix::<f16>(&dir.join("base.npy"))?;
    let ([nq, query_d], queries) = matrix::<f16>(&dir.join("queries.npy"))?;
    let ([truth_rows, truth_k], truth_ip) = matrix::<f32>(&dir.join("gt_ip_dist.npy"))?;
    let glosses = lines(&dir.join("base.tsv"), gloss)?;
    let questions = lines(&dir.join("queries.tsv"), question)?;
    let fits = d > 0
        && query_d == d
        && glosses.len() == nb
        && questions.len() == nq
        && truth_rows == nq
        && questions.iter().all(|question| question.gold < nb);
    if !fits {
        return Err(format!(
            "the files in {} do not belong together: {nb} base rows of {d} values with {} texts, \
             {nq} queries of {query_d} values with {} texts, {truth_rows} rows of exact answers",
            dir.display(),
            glosses.len(),
            questions.len(),
        )
        .into());
    }
    Ok(Sample {
        d,
        base: base.into_iter().map(f16::to_f32).collect(),
        queries: queries.into_iter().map(f16::to_f32).collect(),
        texts: Texts {
            glosses,
            questions,
            truth_ip,
            truth_k,
        },
    })
}

/// A two-dimensional `.npy` file: its shape and its values, row-major.
fn matrix<T: npyz::Deserialize>(path: &Path) -> Result<([usize; 2], Vec<T>)> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = NpyFile::new(std::io::BufReader::new(
        fs::File::open(path).map_err(named)?,
    ));
    let file = file.map_err(named)?;
    let &[rows, columns] = file.shape() else {
        return Err(format!(
            "{}: {} dimensions, 2 expected",
            path.display(),
            file.shape().len()
        )
        .into());
    };
    if file.order() != Order::C {
        return Err(format!("{}: column-major, row-major expected", path.display()).into());
    }
    let shape = [usize::try_from(rows)?, usize::try_from(columns)?];
    Ok((shape, file.into_vec().map_err(named)?))
}

/// Every line of a text file through `decode`, which says None for a malformed one.
fn lines<T>(path: &Path, decode: fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            decode(line).ok_or_else(|| {
                format!("{}: line {} is malformed", path.display(), number + 1).into()
            })
        })
        .collect()
}

/// `synset \t label \t text`
fn gloss(line: &str) -> Option<Gloss> {
    let mut fields = line.splitn(3, '\t');
    let (synset, _label, text) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Gloss {
        synset: synset.to_owned(),
        text: text.to_owned(),
    })
}

/// `gold row \t synset \t text`
fn question(line: &str) -> Option<Question> {
    let mut fields = line.splitn(3, '\t');
    let (gold, _synset, text) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Question {
        gold: gold.parse().ok()?,
        text: text.to_owned(),
    })
}
